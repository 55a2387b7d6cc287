"""From a recipe and its `tune` section to trials, with every mistake found before Ray starts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config import compose_recipe
from pipeline.dag.graph import Graph
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Stage, below, refuse_first
from pipeline.errors import ConfigError, close_match
from pipeline.recipe import PipelineConfig
from pipeline.training.config import TrainingConfig
from pipeline.tune.config import Scheduler
from pipeline.tune.space import Range, parse_range, propose
from pipeline.tune.trials import Sharing, Trial, distinct, divide
from pipeline.verbs.session import Session

ROOT = "stages"


@dataclass(frozen=True)
class Prepared:
    """A search that can be run."""

    node: str
    "The node that decides."
    trials: list[Trial]
    sharing: Sharing
    last_step: int
    "Of the longest trial; 0 where the metric comes at the end only."
    notes: list[str]
    "What a person should know beforehand."


def prepare(session: Session, overrides: Sequence[str]) -> Prepared:
    """The trials of a recipe's search.

    Raises:
        ConfigError: a range, key, node, metric or setting that is wrong, or a proposal that cannot work.
    """
    config = session.config
    refuse_first(below("tune", config.tune.problems()))
    search = _ranges(config)
    node = deciding_node(session.graph, config, search)
    proposed = [
        _trial(number, propose(search, seed=config.tune.seed, trial=number), overrides)
        for number in range(1, config.tune.num_trials + 1)
    ]
    trials = distinct(proposed, node)
    notes = []
    if repeated := len(proposed) - len(trials):
        notes.append(f"{repeated} of {len(proposed)} proposals repeat earlier ones and are left out")
    last_step = max(_last_step(trial, node, config.tune.metric) for trial in trials)
    if config.tune.scheduler is Scheduler.asha and config.tune.grace_steps >= last_step:
        notes.append(_why_asha_waits(config, node, last_step))
    return Prepared(node, trials, divide(trials, node), last_step, notes)


def deciding_node(graph: Graph, config: PipelineConfig, search: Mapping[str, Range]) -> str:
    """The node whose metric decides: the one named, or the last searched one that reports it, or the last below."""
    metric, named = config.tune.metric, config.tune.node
    reporting = [node for node in graph.order if metric in graph.stages[node].reported_metrics()]
    if named:
        if named not in graph.stages:
            raise _unknown_node(named, "tune.node", graph)
        if named not in reporting:
            raise _not_reported(named, metric, graph)
        return named
    searched = {key.split(".")[1] for key in search}
    below = [node for node in reporting if searched & set(graph.needed_by([node]))]
    found = [node for node in below if node in searched] or below
    if not found:
        known = {name for stage in graph.stages.values() for name in stage.reported_metrics()}
        raise ConfigError(
            f'no node that the search touches reports "{metric}"',
            where="tune.metric",
            allowed=", ".join(sorted(known)) or "none: the recipe trains and evaluates nothing",
            do=f"{close_match(metric, known)}name another metric, or give the training a `validation` input",
        )
    return found[-1]


def share_out(resources: Resources, *, num_trials: int, cluster: Mapping[str, float]) -> Resources:
    """The resources of a node where so many trials run at once: what was left open is divided among them."""
    if num_trials == 1:
        return resources
    gpus, workers = cluster.get("GPU", 0), resources.num_workers
    per_rank = resources.num_gpus if resources.num_gpus is not None else min(gpus, 1)
    if workers is None and per_rank:
        workers = max(1, int(gpus / per_rank / num_trials))
    threads = max(1, int(cluster.get("CPU", 1) / num_trials / (workers or 1)))
    return replace(resources, num_workers=workers, cpus_per_worker=resources.cpus_per_worker or threads)


def as_override(key: str, value: Any) -> str:
    """`key=value` in Hydra's grammar."""
    if isinstance(value, str):
        # A backslash means itself there, save where a quote follows.
        escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
        return f"{key}='{escaped}'"
    words = {None: "null", True: "true", False: "false"}
    return f"{key}={words[value] if value is None or isinstance(value, bool) else value}"


def _ranges(config: PipelineConfig) -> dict[str, Range]:
    if not config.tune.search:
        raise ConfigError(
            "nothing is searched",
            where="tune.search",
            allowed="keys with their ranges",
            do="for example 'tune.search={stages.NODE.learning_rate: \"loguniform(1e-4, 1e-2)\"}'",
        )
    for key in config.tune.search:
        root, node, *rest = [*key.split("."), "", ""]
        if root != ROOT or not rest[0]:
            raise ConfigError(
                f'"{key}" cannot be searched',
                where="tune.search",
                allowed="a field of a node: stages.NODE.FIELD",
                do=f"{close_match(root, [ROOT])}name such a field; `headrace show recipe` prints them all",
            )
        if node not in config.stages:
            raise _unknown_node(node, f"tune.search, {key}", Graph(config.stages))
    return {key: parse_range(key, text) for key, text in config.tune.search.items()}


def _trial(number: int, values: dict[str, Any], overrides: Sequence[str]) -> Trial:
    try:
        composed = compose_recipe([*overrides, *(as_override(key, value) for key, value in values.items())])
        graph = Graph(composed.config.stages)
    except ConfigError as error:
        shown = ", ".join(f"{key}={value}" for key, value in values.items())
        error.where = f"{error.where} (tune.search, trial {number}: {shown})"
        raise
    resources = {node: composed.config.resources_of(node) for node in graph.stages}
    return Trial(number, values, graph, resources)


def _last_step(trial: Trial, node: str, metric: str) -> int:
    """0 where the node reports the metric at its end only."""
    stage = trial.graph.stages[node]
    if not isinstance(stage, TrainingConfig):
        return 0
    reports = metric.startswith("train/") or stage.eval_every_steps
    return last_step_of(stage) if reports else 0


def last_step_of(stage: Stage) -> int:
    """Of a training whose length the settings tell; 0 for others, whose metrics count at their end."""
    length = stage.length() if isinstance(stage, TrainingConfig) else None
    return length.num_steps if length else 0


def _why_asha_waits(config: PipelineConfig, node: str, last_step: int) -> str:
    if last_step:
        return (
            f"every trial runs to its end: tune.grace_steps={config.tune.grace_steps} is not below its "
            f"{last_step} steps"
        )
    return (
        f"every trial runs to its end: {node} reports {config.tune.metric} only then, or its length in epochs is not "
        f"known yet; asha needs stages.{node}.eval_every_steps, or tune.metric=train/loss on a training"
    )


def _unknown_node(name: str, where: str, graph: Graph) -> ConfigError:
    return ConfigError(
        f'there is no node "{name}" in this recipe',
        where=where,
        allowed=", ".join(graph.stages),
        do=f"{close_match(name, graph.stages)}name one of these",
    )


def _not_reported(node: str, metric: str, graph: Graph) -> ConfigError:
    known = graph.stages[node].reported_metrics()
    others = [each for each in graph.order if metric in graph.stages[each].reported_metrics()]
    hint = close_match(metric, known)
    if others:
        hint += f"{', '.join(others)} report{'s' if len(others) == 1 else ''} it; "
    return ConfigError(
        f'the node "{node}" does not report "{metric}"',
        where="tune.metric",
        allowed=", ".join(known) or f"none: {node} reports no metric",
        do=f"{hint}name another metric or node (a training reports eval/loss when it has a `validation` input)",
    )
