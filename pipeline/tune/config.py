"""The recipe's `tune` section: what is searched, what decides, and when a trial ends."""

from dataclasses import dataclass, field
from enum import Enum

from pipeline.dag.stage import Problem


class Scheduler(Enum):
    """When a trial ends."""

    none = "none"
    "Each trial runs to its end."
    asha = "asha"
    "Asynchronous successive halving: the worse ones end early (Li et al. 2018, arXiv:1810.05934)."


class Mode(Enum):
    """Which way is better."""

    min = "min"
    max = "max"


@dataclass
class TuneConfig:
    """The `tune` section. Circumstance for `run`: no part of any fingerprint."""

    search: dict[str, str] = field(default_factory=dict)
    """Key below `stages` to its range: "uniform(a, b)", "loguniform(a, b)", "randint(a, b)" (a <= n < b), each also
    with a step as a third argument, or "choice(a, b, c)"."""
    node: str = ""
    "The node whose metric decides. Empty: the last searched node that reports it, or else the last node below one."
    metric: str = "eval/loss"
    "The metric that decides."
    mode: Mode = Mode.min
    "min or max: which way is better."
    num_trials: int = 8
    "Trials; >= 1. More of them later go on where these ended."
    max_concurrent: int = 1
    "Trials at a time, which share the cluster's cores and GPUs; >= 1."
    scheduler: Scheduler = Scheduler.asha
    "none or asha."
    grace_steps: int = 20
    "Steps before asha may end a trial; >= 1."
    reduction_factor: int = 3
    "asha lets one in so many go on at each rung; >= 2."
    seed: int = 0
    "Seed of the search; the same seed proposes the same trials."
    write_best: str = "conf/recipe/best.yaml"
    "Where the best trial is written as a recipe; a path that ends in .yaml."

    def problems(self) -> list[Problem]:
        """What is wrong with these values on their own; ranges and names are checked where the recipe is known."""
        ranges = [
            ("num_trials", self.num_trials >= 1, ">= 1"),
            ("max_concurrent", self.max_concurrent >= 1, ">= 1"),
            ("grace_steps", self.grace_steps >= 1, ">= 1"),
            ("reduction_factor", self.reduction_factor >= 2, ">= 2"),  # noqa: PLR2004
            ("write_best", self.write_best.endswith(".yaml"), "a path that ends in .yaml"),
        ]
        return [
            Problem(name, f"{name} is {getattr(self, name)}", allowed, f"set tune.{name} to {allowed}")
            for name, holds, allowed in ranges
            if not holds
        ]
