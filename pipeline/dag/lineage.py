"""Between a graph and a manifest: the inputs that a node gets, and the descriptor of what it made of them."""

from collections.abc import Container, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from pipeline.dag.following import Growing
from pipeline.dag.forecast import WORK, Work
from pipeline.dag.graph import Edge, Graph
from pipeline.dag.stage import Input, Stage, StageContext, StageResult
from pipeline.dag.store import Artifact, Manifest, ManifestFile


def gather_inputs(
    graph: Graph,
    node: str,
    artifacts: Mapping[str, Artifact],
    growing: Mapping[str, Growing] = MappingProxyType({}),
) -> dict[str, list[Input]]:
    """Port to the artifacts, or parts of them, that the recipe puts there; out of `growing` those not whole yet."""

    def given(edge: Edge) -> Input:
        if edge.node not in artifacts:
            return growing[edge.node].input(edge)
        artifact = artifacts[edge.node]
        folder = artifact.folder.child(edge.part) if edge.part else artifact.folder
        return Input(edge.node, edge.part, artifact.manifest.kind, folder, artifact.manifest)

    return {name: [given(edge) for edge in edges] for name, edges in graph.edges[node].items()}


def input_tags(context: StageContext) -> dict[str, str]:
    """Tags that name the bytes a node was built from: `headrace.input.<port>.<node>[/<part>]` to a digest."""
    return {
        f"headrace.input.{name}.{each.reference}": each.manifest.part_digest(each.part)
        for name, inputs in context.inputs.items()
        for each in inputs
        if each.following is None
    }


def describe(
    stage: Stage,
    context: StageContext,
    identity: dict[str, Any],
    result: StageResult,
    *,
    facts: dict[str, Any],
    pinned: Container[str],
) -> Manifest:
    """The manifest of what `stage` has just written under `context.output`."""
    output = context.output
    manifests = {name: [each.manifest for each in given] for name, given in context.inputs.items()}
    num_bytes = sum(each.manifest.num_bytes(each.part) for given in context.inputs.values() for each in given)
    work = Work.of(stage.estimate(manifests, context.resources), num_bytes)
    return Manifest(
        stage=stage.name,
        key=context.key,
        kind=stage.produces,
        node=context.node,
        payload=identity,
        inputs={name: [_origin(each, pinned) for each in given] for name, given in context.inputs.items()},
        files=[ManifestFile(entry.name, entry.size, output.digest(entry.name)) for entry in output.files()],
        counters=result.counters,
        metrics=result.metrics,
        facts=facts | {WORK: asdict(work)},
    )


def _origin(given: Input, pinned: Container[str]) -> dict[str, str]:
    origin = {
        "node": given.node,
        "part": given.part,
        "stage": given.manifest.stage,
        "key": given.manifest.key,
        "digest": given.manifest.part_digest(given.part),
    }
    return origin | ({"pinned": "yes"} if given.node in pinned else {})
