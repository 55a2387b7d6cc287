"""Hyperparameter search: trials are runs of the same recipe with other values, on one Ray cluster."""

from dataclasses import dataclass, field
from enum import Enum


class Scheduler(Enum):
    """When a trial ends."""

    none = "none"
    "Each trial runs to its end."
    asha = "asha"
    "Asynchronous successive halving: the worse half ends early (Li et al. 2018, arXiv:1810.05934)."


class Mode(Enum):
    """Which way is better."""

    min = "min"
    max = "max"


@dataclass
class TuneConfig:
    """The `tune` section. Circumstance for `run`: no part of any fingerprint."""

    search: dict[str, str] = field(default_factory=dict)
    'Override to its range: "loguniform(1e-4, 1e-2)", "uniform(a, b)", "randint(a, b)" or "choice(a, b, c)".'
    node: str = ""
    "The node whose metric decides. Empty: the recipe's last node that reports it."
    metric: str = "eval/loss"
    "The metric that decides."
    mode: Mode = Mode.min
    "min or max: which way is better."
    num_trials: int = 8
    "Trials; >= 1."
    max_concurrent: int = 1
    "Trials at a time; >= 1."
    scheduler: Scheduler = Scheduler.asha
    "none or asha."
    grace_steps: int = 20
    "Steps before asha may end a trial; >= 1."
    reduction_factor: int = 3
    "Of how many trials asha lets one go on; >= 2."
    seed: int = 0
    "Seed of the search; the same seed proposes the same trials."
    write_best: str = "conf/recipe/best.yaml"
    "Where the best trial is written as a recipe."
