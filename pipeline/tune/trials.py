"""Trials: what each would build, what all of them share, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pipeline.dag.fingerprint import fingerprint, payload
from pipeline.dag.graph import Graph
from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError, HeadraceError


class TrialStatus(Enum):
    """What became of a trial."""

    waiting = "not started"
    running = "running"
    finished = "finished"
    reused = "reused"
    "It was finished by an earlier search or run."
    stopped = "stopped early"
    "asha ended it; nothing of its last node was committed."
    failed = "failed"
    interrupted = "interrupted"


@dataclass
class Trial:
    """One proposal: the recipe with other values."""

    number: int
    "Counted from 1, in the order of proposal."
    overrides: dict[str, Any]
    "Key to value."
    graph: Graph
    "The recipe's, with the overrides."
    resources: dict[str, Resources]
    "Of each node."
    status: TrialStatus = TrialStatus.waiting
    history: list[tuple[int, float]] = field(default_factory=list)
    "Step and metric, as far as they were reported."
    error: HeadraceError | None = None
    key: str = ""
    "Of all that it depends on; known once what the trials share is built."
    artifact_key: str = ""
    "The fingerprint of the deciding node, once it is built."

    @property
    def name(self) -> str:
        return f"trial {self.number}"

    @property
    def is_open(self) -> bool:
        """Whether it is still to be run."""
        return self.status is TrialStatus.waiting

    @property
    def is_complete(self) -> bool:
        return self.status in (TrialStatus.finished, TrialStatus.reused)

    @property
    def value(self) -> float | None:
        """The newest value of the metric that decides."""
        return self.history[-1][1] if self.history else None

    @property
    def step(self) -> int:
        return self.history[-1][0] if self.history else 0


@dataclass(frozen=True)
class Sharing:
    """How the nodes that the trials need fall apart."""

    shared: list[str]
    "Those that come out the same for each trial, in topological order."
    own: list[str]
    "Those that differ, and those below them."


def distinct(trials: Sequence[Trial], node: str) -> list[Trial]:
    """The trials without those that repeat an earlier one, as a choice among few values does.

    Raises:
        ConfigError: what is searched changes nothing, so that all trials are one.
    """
    first: dict[str, Trial] = {}
    for trial in trials:
        declared = {name: _declared(trial.graph, name) for name in trial.graph.needed_by([node])}
        first.setdefault(fingerprint(declared), trial)
    if len(first) == 1 and any(trial.overrides != trials[0].overrides for trial in trials):
        raise ConfigError(
            f'nothing that is searched changes what "{node}" is built from',
            where=f"tune.search: {', '.join(trials[0].overrides)}",
            allowed="fields that change the result of tune.node, or of a node above it",
            do="search other fields, or set tune.node to a node that depends on these",
        )
    return list(first.values())


def divide(trials: Sequence[Trial], node: str) -> Sharing:
    """Which of the nodes that `node` needs are touched by the overrides."""
    needed = list(dict.fromkeys(each for trial in trials for each in trial.graph.needed_by([node])))
    own = {node}
    for name in needed:
        graphs = [trial.graph for trial in trials if name in trial.graph.stages]
        below = any(parent in own for graph in graphs for parent in graph.parents(name))
        if below or len({fingerprint(_declared(graph, name)) for graph in graphs}) > 1:
            own.add(name)
    return Sharing([name for name in needed if name not in own], [name for name in needed if name in own])


def trial_key(trial: Trial, sharing: Sharing, digests: dict[str, str]) -> str:
    """All that a trial depends on, in one key.

    Args:
        trial: whose key.
        sharing: which of the nodes are shared.
        digests: of the shared artifacts, by node.
    """
    own = {name: _declared(trial.graph, name) for name in sharing.own if name in trial.graph.stages}
    return fingerprint({"own": own, "shared": {name: digests[name] for name in sharing.shared}})


def best_of(trials: Sequence[Trial], *, lower_is_better: bool) -> Trial | None:
    """The complete trial with the best value; the first of equals."""
    sign = 1.0 if lower_is_better else -1.0
    complete = [(sign * each.value, each) for each in trials if each.is_complete and each.value is not None]
    return min(complete, key=lambda pair: pair[0])[1] if complete else None


def _declared(graph: Graph, node: str) -> dict[str, Any]:
    """What a recipe says of a node: its identity, with the names of its inputs in place of their content."""
    inputs = {name: [str(edge) for edge in edges] for name, edges in graph.edges[node].items()}
    return payload(graph.stages[node], inputs)
