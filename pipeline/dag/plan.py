"""The plan: what would run, what is reused, and which field made the difference. It runs nothing."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.dag.events import PlannedNode, Status
from pipeline.dag.fingerprint import DigestMemory, content_digest, differences, fingerprint, payload
from pipeline.dag.folder import machine_cache
from pipeline.dag.foresight import Source
from pipeline.dag.graph import Edge, Graph
from pipeline.dag.store import Artifact, Manifest, Store
from pipeline.errors import ConfigError, InputDataError, close_match


@dataclass
class NodePlan:
    node: str
    stage: str
    status: Status
    payload: dict[str, Any] | None = None
    "The canonical identity; None while an input is not built yet."
    key: str = ""
    "The fingerprint; empty while an input is not built yet."
    artifact: Artifact | None = None
    reasons: list[str] = field(default_factory=list)


@dataclass
class Plan:
    nodes: list[NodePlan]
    "In topological order."

    def __getitem__(self, node: str) -> NodePlan:
        return next(plan for plan in self.nodes if plan.node == node)

    @property
    def is_finished(self) -> bool:
        return all(plan.status in (Status.REUSE, Status.PINNED) for plan in self.nodes)

    def announcement(self, graph: Graph) -> list[PlannedNode]:
        """The plan as the report shows it."""
        return [
            PlannedNode(plan.node, plan.stage, plan.status, plan.reasons, graph.parents(plan.node))
            for plan in self.nodes
        ]


class Planner:
    """Finds the fingerprint of nodes and their artifacts.

    Args:
        graph: what the recipe declares.
        store: where artifacts are.
        recipe: its name; the store remembers what each of its nodes last had.
        pins: node name to an artifact that stands in for it.
    """

    def __init__(
        self, graph: Graph, store: Store, *, recipe: str, pins: Mapping[str, Artifact] | None = None
    ) -> None:
        self.graph, self.store, self.recipe = graph, store, recipe
        self.pins = dict(pins or {})
        self.memory = DigestMemory(_memory_path(store))
        for node, artifact in self.pins.items():
            self._check_pin(node, artifact)

    def plan(self, targets: Sequence[str] = ()) -> Plan:
        """The plan for the targets and all above them, or for the whole recipe.

        Raises:
            ConfigError: a target or a part that does not exist.
            InputDataError: a file from outside cannot be read, or an artifact was changed by hand.
        """
        artifacts: dict[str, Artifact] = {}
        plans = []
        for node in self.graph.needed_by(targets):
            plans.append(self._plan_node(node, artifacts))
            if artifact := plans[-1].artifact:
                artifacts[node] = artifact
        return Plan(plans)

    def known_inputs(self, node: str, plan: Plan) -> dict[str, list[Manifest]]:
        """Port to the manifests of those inputs that are built already."""
        built = {each.node: each.artifact for each in plan.nodes if each.artifact}
        return {
            name: [built[edge.node].manifest for edge in edges if edge.node in built]
            for name, edges in self.graph.edges[node].items()
        }

    def sources(self, node: str, plan: Plan) -> dict[str, list[Source]]:
        """Port to what the node takes from there."""
        built = {each.node: each.artifact.folder for each in plan.nodes if each.artifact}
        return {
            name: [Source(self.graph.stages[edge.node], built.get(edge.node)) for edge in edges]
            for name, edges in self.graph.edges[node].items()
        }

    def identify(self, node: str, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
        """The payload of a node whose inputs are all in `artifacts`."""
        inputs = {
            name: [self._digest(edge, artifacts[edge.node], node, name) for edge in edges]
            for name, edges in self.graph.edges[node].items()
        }
        return payload(self.graph.stages[node], inputs, self._external_digest(node))

    def work_key(self, node: str, key: str, origins: Mapping[str, tuple[str, str]]) -> str:
        """The name of a node's work folder: its fingerprint, but for a stage that can follow what is still written.

        The work of that one is named before the digests of its inputs are known: by their keys in place of them.

        Args:
            node: its name.
            key: its fingerprint; empty while an input is not built yet.
            origins: stage and key of every input's artifact, by node.
        """
        stage = self.graph.stages[node]
        if not stage.follows():
            return key
        inputs = {
            name: ["/".join([*origins[edge.node], edge.part]) for edge in edges]
            for name, edges in self.graph.edges[node].items()
        }
        return fingerprint(payload(stage, inputs, self._external_digest(node)))

    @cached_property
    def followed(self) -> set[str]:
        """The nodes that another one would begin on before they are whole."""
        return set().union(*map(self._followed_by, self.graph.stages))

    def _followed_by(self, node: str) -> set[str]:
        ports = self.graph.stages[node].follows()
        return {edge.node for name in ports for edge in self.graph.edges[node][name]}

    def find(self, node: str, key: str) -> Artifact | None:
        """The artifact of a fingerprint, its files checked against their digests where they changed on disk."""
        artifact = self.store.find(self.graph.stages[node].name, key)
        if artifact:
            self._check_bytes(artifact)
        return artifact

    def _plan_node(self, node: str, artifacts: Mapping[str, Artifact]) -> NodePlan:
        stage = self.graph.stages[node]
        if node in self.pins:
            pinned = self.pins[node]
            reason = f"pinned to {pinned.manifest.stage}/{pinned.manifest.key}"
            return NodePlan(
                node, stage.name, Status.PINNED, key=pinned.manifest.key, artifact=pinned, reasons=[reason]
            )
        unbuilt = [parent for parent in self.graph.parents(node) if parent not in artifacts]
        if unbuilt:
            return NodePlan(node, stage.name, Status.WAIT, reasons=[self._after(node, unbuilt)])
        identity = self.identify(node, artifacts)
        key = fingerprint(identity)
        found = NodePlan(node, stage.name, Status.REUSE, identity, key, self.find(node, key))
        if found.artifact is None:
            found.status = Status.RUN
            work_key = self.work_key(
                node, key, {name: each.manifest.origin for name, each in artifacts.items()}
            )
            found.reasons = self.reasons(node, identity, key, work_key)
        return found

    def _after(self, node: str, unbuilt: Sequence[str]) -> str:
        followed = self._followed_by(node)
        whole = ", ".join(each for each in unbuilt if each not in followed)
        begun = ", ".join(each for each in unbuilt if each in followed)
        return "after " + " and ".join(filter(None, [whole, begun and f"the first files of {begun}"]))

    def reasons(self, node: str, identity: Mapping[str, Any], key: str, work_key: str) -> list[str]:
        """Why a node has no artifact: the fields that differ from the one it last had."""
        stage = self.graph.stages[node].name
        resumes = ["unfinished work is continued"] if self.store.work_folder(stage, work_key).files() else []
        last = self.store.last_of(self.recipe, node)
        if last is None:
            return [*resumes, "never built"]
        if last == (stage, key):
            return [*resumes, "its artifact is gone from the store"]
        before = self.store.find(*last)
        if before is None:
            return [*resumes, "built before with other settings; that artifact is gone"]
        changes = differences(before.manifest.payload, identity)
        return [*resumes, *self._explain(node, changes)]

    def _explain(self, node: str, changes: list[tuple[str, Any, Any]]) -> list[str]:
        lines = []
        for path, old, new in changes:
            kind, _, rest = path.partition(".")
            if kind == "inputs":
                edges = ", ".join(str(edge) for edge in self.graph.edges[node].get(rest, []))
                lines.append(f"input {rest} has other content ({edges})")
            elif kind == "files":
                lines.append("the files it reads have changed")
            else:
                lines.append(f"{rest or kind}: {_short(old)} → {_short(new)}")
        return list(dict.fromkeys(lines))

    def _digest(self, edge: Edge, artifact: Artifact, node: str, port_name: str) -> str:
        if edge.part and edge.part not in (parts := artifact.manifest.parts()):
            raise ConfigError(
                f'the artifact of "{edge.node}" has no part "{edge.part}"',
                where=f"stages.{node}.inputs.{port_name}",
                allowed=", ".join(f"{edge.node}/{part}" for part in parts) or f"{edge.node}; it has no parts",
                do=f"{close_match(edge.part, parts)}name one of these",
            )
        return artifact.manifest.part_digest(edge.part)

    def _external_digest(self, node: str) -> str:
        files = self.graph.stages[node].external_files()
        if not files:
            return ""
        try:
            found = iter(self.memory.digests([file.path for file in files if not file.digest]))
        except OSError as error:
            raise InputDataError(
                f"a file cannot be read: {error.strerror}",
                where=f"{error.filename} (stages.{node})",
                allowed="files that exist and that this user may read",
                do="correct the path, or the file's permissions",
            ) from error
        return content_digest((file.name, file.digest or next(found)) for file in files)

    def _check_bytes(self, artifact: Artifact) -> None:
        files = artifact.manifest.files
        if not artifact.folder.is_local:
            return
        try:
            found = self.memory.digests([artifact.folder.at(file.name) for file in files])
        except FileNotFoundError as error:
            raise _altered(artifact, Path(error.filename).name, "is missing") from error
        for file, digest in zip(files, found, strict=True):
            if digest != file.sha256:
                raise _altered(artifact, file.name, "was changed after it was committed")

    def _check_pin(self, node: str, artifact: Artifact) -> None:
        if node not in self.graph.stages:
            raise ConfigError(
                f'there is no node "{node}" in this recipe',
                where=f"--pin {node}=…",
                allowed=", ".join(self.graph.stages),
                do=f"{close_match(node, self.graph.stages)}name one of the nodes above",
            )
        wanted = self.graph.stages[node].produces
        if artifact.manifest.kind != wanted:
            raise ConfigError(
                f'"{node}" gives {wanted}, but the artifact is of the kind {artifact.manifest.kind}',
                where=f"--pin {node}={artifact.manifest.key}",
                allowed=f"an artifact of the kind {wanted}",
                do="pin another artifact",
            )


def _altered(artifact: Artifact, name: str, what: str) -> InputDataError:
    return InputDataError(
        f"{name} of an artifact {what}",
        where=f"{artifact.folder.url}/{name}",
        allowed="the bytes whose SHA-256 the manifest gives",
        do=f"put the file back, or delete {artifact.folder.url} so that it is built again",
    )


def _short(value: Any) -> str:
    return "nothing" if value is None else textwrap.shorten(str(value), 60, placeholder="…")


def _memory_path(store: Store) -> Path:
    """Digests are remembered beside a local store, or in the machine's cache for a remote one."""
    if store.root.is_local:
        return Path(store.root.path) / "cache" / "digests.sqlite"
    return machine_cache() / "digests.sqlite"
