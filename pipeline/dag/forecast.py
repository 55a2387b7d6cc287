"""How long a plan will take, from what nodes of the same stages took before in the same store.

A stage's duration is taken to grow with its work: the FLOPs of a training, the bytes that a data stage reads. Sizes of
artifacts that are not built yet are foretold from the same past, so the forecast reaches the end of the graph.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pipeline.dag.graph import Edge
from pipeline.dag.plan import NodePlan, Plan, Planner
from pipeline.dag.resources import Resources
from pipeline.dag.store import Artifact, Manifest

WORK = "work"
"The fact of a manifest that says how much work its seconds were."
UNITS = ("flops", "tokens", "bytes")
"What an estimate says that a duration grows with, the best first."


@dataclass(frozen=True)
class Work:
    unit: str
    amount: float

    @staticmethod
    def of(estimate: Mapping[str, float], input_bytes: float) -> "Work":
        """The work of a node, from its stage's estimate, or from the bytes it reads where that has none."""
        for unit in UNITS:
            if unit in estimate:
                return Work(unit, estimate[unit])
        return Work("input bytes", input_bytes)


def forecast(planner: Planner, plan: Plan, resources: Callable[[str], Resources]) -> dict[str, float | None]:
    """Seconds that each node to be built will take; None where the store has nothing like it yet.

    Args:
        planner: knows the graph and the store.
        plan: what is to be built.
        resources: the resources of a node, by its name.
    """
    coming: dict[str, _Coming] = {}
    seconds: dict[str, float | None] = {}
    for each in plan.nodes:
        if each.artifact:
            coming[each.node] = _Coming(each.artifact.manifest)
            continue
        past = _past(planner, each)
        if past is None:
            seconds[each.node] = None
            continue
        work = _work(planner, each.node, coming, resources(each.node))
        known = Work(**past.manifest.facts[WORK])
        scale = work.amount / known.amount if work and work.unit == known.unit and known.amount else None
        seconds[each.node] = None if scale is None else past.manifest.facts["seconds"] * scale
        coming[each.node] = _Coming(past.manifest, 1.0 if scale is None else scale)
    return seconds


@dataclass(frozen=True)
class _Coming:
    """An artifact that is there, or one that will be so many times the size of an earlier one."""

    manifest: Manifest
    scale: float = 1.0

    def num_bytes(self, edge: Edge) -> float:
        return self.scale * self.manifest.num_bytes(edge.part)


def _past(planner: Planner, each: NodePlan) -> Artifact | None:
    """The nearest that was built before in one go: by this node of the recipe, or by its stage for any node."""
    store = planner.store
    for pointer in (store.last_of(planner.recipe, each.node), store.last_built(each.stage)):
        found = store.find(*pointer) if pointer and pointer[0] == each.stage else None
        if found and WORK in found.manifest.facts and not found.manifest.facts.get("resumed"):
            return found
    return None


def _work(planner: Planner, node: str, coming: Mapping[str, _Coming], resources: Resources) -> Work | None:
    edges = planner.graph.edges[node]
    if any(edge.node not in coming for edge in _flat(edges)):
        return None
    manifests = {port: [coming[edge.node].manifest for edge in given] for port, given in edges.items()}
    num_bytes = sum(coming[edge.node].num_bytes(edge) for edge in _flat(edges))
    return Work.of(planner.graph.stages[node].estimate(manifests, resources), num_bytes)


def _flat(edges: Mapping[str, list[Edge]]) -> Iterable[Edge]:
    return (edge for given in edges.values() for edge in given)
