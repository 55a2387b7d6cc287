"""The graph that a recipe declares: named stages and the edges between them, checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from pipeline.dag.stage import Stage, below, refuse_first
from pipeline.errors import ConfigError, close_match


class Edge(NamedTuple):
    """A reference in an input: the node it names, and a part of that node's artifact or an empty string."""

    node: str
    part: str

    @staticmethod
    def parse(reference: str) -> "Edge":
        node, _, part = reference.partition("/")
        return Edge(node, part)

    def __str__(self) -> str:
        return f"{self.node}/{self.part}" if self.part else self.node


@dataclass
class Graph:
    """Nodes by name, with their edges.

    Args:
        stages: node name to its stage, in the order of the recipe.

    Raises:
        ConfigError: an unknown node, a missing input, an input of the wrong kind, a setting out of range, a cycle.
    """

    stages: Mapping[str, Stage]
    edges: dict[str, dict[str, list[Edge]]] = field(init=False)
    "Node to port to references."

    def __post_init__(self) -> None:
        self.edges = {}
        for node, stage in self.stages.items():
            refuse_first(below(f"stages.{node}", stage.problems()))
            self.edges[node] = self._edges_of(node, stage)
        for node, stage in self.stages.items():
            refuse_first(below(f"stages.{node}", stage.input_problems(self._sources_of(node))))
        _ = self.order

    @cached_property
    def order(self) -> list[str]:
        """Every node after all that it takes from; otherwise as the recipe has them."""
        try:
            return list(TopologicalSorter({node: self.parents(node) for node in self.stages}).static_order())
        except CycleError as error:
            cycle: Sequence[str] = error.args[1]
            raise ConfigError(
                f"the recipe goes round in a circle: {' → '.join(reversed(cycle))}",
                where=f"stages.{cycle[0]}.inputs",
                allowed="a graph without cycles",
                do="take the reference out that leads back",
            ) from None

    def parents(self, node: str) -> list[str]:
        """The nodes it takes from, each once."""
        return list(dict.fromkeys(edge.node for edges in self.edges[node].values() for edge in edges))

    def needed_by(self, targets: Sequence[str]) -> list[str]:
        """The targets and all above them, in topological order; every node when there is no target."""
        if not targets:
            return self.order
        for target in targets:
            if target not in self.stages:
                raise self._unknown_node(target, "the command line")
        needed: set[str] = set()
        waiting = list(targets)
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting.extend(self.parents(node))
        return [node for node in self.order if node in needed]

    def _sources_of(self, node: str) -> dict[str, list[Stage]]:
        """The stages at each of its ports."""
        return {port: [self.stages[edge.node] for edge in edges] for port, edges in self.edges[node].items()}

    def _edges_of(self, node: str, stage: Stage) -> dict[str, list[Edge]]:
        edges = {}
        for name, (kinds, references, optional) in stage.ports().items():
            where = f"stages.{node}.inputs.{name}"
            if not references and not optional:
                raise self._missing_input(where, stage, kinds)
            edges[name] = [self._parsed(reference, where) for reference in references]
            for edge in edges[name]:
                self._check_edge(edge, where, kinds)
        return edges

    def _parsed(self, reference: object, where: str) -> Edge:
        if isinstance(reference, str):
            return Edge.parse(reference)
        raise ConfigError(
            f"{reference} is no name of a node",
            where=where,
            allowed=", ".join(self.stages),
            do="name a node of this recipe",
        )

    def _check_edge(self, edge: Edge, where: str, kinds: tuple[str, ...]) -> None:
        if edge.node not in self.stages:
            raise self._unknown_node(edge.node, where)
        produced = self.stages[edge.node].produces
        if produced not in kinds:
            fitting = self._producers(kinds)
            raise ConfigError(
                f'"{edge.node}" gives {produced}, but this input takes {" or ".join(kinds)}',
                where=where,
                allowed=", ".join(fitting) or f"a node that gives {' or '.join(kinds)}; the recipe has none",
                do=f"name {'one of these' if fitting else 'such a node'} instead",
            )

    def _missing_input(self, where: str, stage: Stage, kinds: tuple[str, ...]) -> ConfigError:
        fitting = self._producers(kinds)
        return ConfigError(
            f"the stage {stage.name} needs this input, and it is empty",
            where=where,
            allowed=", ".join(fitting) or f"a node that gives {' or '.join(kinds)}; the recipe has none",
            do=f"set {where}=NODE",
        )

    def _unknown_node(self, name: str, where: str) -> ConfigError:
        return ConfigError(
            f'there is no node "{name}" in this recipe',
            where=where,
            allowed=", ".join(self.stages),
            do=f"{close_match(name, self.stages)}name one of the nodes above",
        )

    def _producers(self, kinds: tuple[str, ...]) -> list[str]:
        return [node for node, stage in self.stages.items() if stage.produces in kinds]
