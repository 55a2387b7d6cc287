"""One node of a run: reused, or built under its lock and committed. Each works in a thread of its own."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Event as StopEvent
from typing import Any

from pipeline.dag import facts
from pipeline.dag.events import Event, NodeFinished, NodeNote, NodeReused, NodeStarted
from pipeline.dag.fingerprint import canonical, fingerprint
from pipeline.dag.following import Growing
from pipeline.dag.lineage import describe, gather_inputs, input_tags
from pipeline.dag.lock import Lock
from pipeline.dag.plan import Planner
from pipeline.dag.process import ProcessId
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Stage, StageContext, StageResult
from pipeline.dag.store import Artifact, Manifest
from pipeline.dag.tasks import MailboxChannel, RayMap
from pipeline.errors import StageFailedError


@dataclass(frozen=True)
class Given:
    """What there is of a node's inputs when it begins."""

    artifacts: Mapping[str, Artifact]
    growing: Mapping[str, Growing] = field(default_factory=dict)
    "Inputs that other nodes of the run are still writing."

    def origins(self) -> dict[str, tuple[str, str]]:
        """Node to stage and key."""
        whole = {node: artifact.manifest.origin for node, artifact in self.artifacts.items()}
        return whole | {node: (each.stage, each.key) for node, each in self.growing.items()}


@dataclass(frozen=True)
class Builder:
    """Settles nodes one at a time, in as many threads as the runner likes."""

    planner: Planner
    resources: Callable[[str], Resources]
    "Of a node, by its name."
    listener: Callable[[Event], None]
    mailbox: Any
    stop: StopEvent
    "Set when the run is ending."
    offer: Callable[[Growing], None]
    "Told when a node begins to write what others may follow."
    awaited: Callable[[str], Artifact]
    "The artifact of another node of the run, once it is whole; raises where it failed."
    pass_events_on: Callable[[], None]
    "Called before a node is told finished, so that its events come first."
    run_id: str
    tracking_uri: str
    registry_uri: str

    def settle(self, node: str, given: Given) -> tuple[Artifact, bool]:
        """The node's artifact, and whether it was built now."""
        if node in self.planner.pins:
            return self._reused(node, self.planner.pins[node]), False
        identity = None if given.growing else self.planner.identify(node, given.artifacts)
        key = fingerprint(identity) if identity else ""
        if found := key and self.planner.find(node, key):
            return self._reused(node, found), False
        name, store = self.planner.graph.stages[node].name, self.planner.store
        work_key = self.planner.work_key(node, key, given.origins())
        lock = self._lock(name, work_key)
        with lock.held(on_wait=lambda holder: self._tell_waiting(node, holder)):
            store.recover(name, work_key)
            if found := key and self.planner.find(node, key):
                return self._reused(node, found), False
            artifact, is_new = self._build(node, work_key, given, identity, lock)
        store.note_last(self.planner.recipe, node, name, artifact.manifest.key)
        return artifact, is_new

    def _build(
        self, node: str, work_key: str, given: Given, identity: dict[str, Any] | None, lock: Lock
    ) -> tuple[Artifact, bool]:
        stage = self.planner.graph.stages[node]
        started_at = time.time()
        is_resumed = bool(self.planner.store.work_folder(stage.name, work_key).files())
        context = self._context(node, work_key, given)
        params = {"stage": stage.name} | canonical(stage.identity())
        self.listener(NodeStarted(node, stage.name, work_key, params, input_tags(context)))
        self._offer(stage, context)
        result = stage.run(context)
        if identity is None:
            context, identity = self._with_whole_inputs(context, given)
        context = replace(context, key=fingerprint(identity))
        if self.stop.is_set():
            raise StageFailedError("given up, since the run is ending", where=node)
        now = facts.gather(self.run_id, started_at, canonical(context.resources)) | {"resumed": is_resumed}
        manifest = describe(stage, context, identity, result, facts=now, pinned=self.planner.pins)
        if not lock.still_held():
            raise StageFailedError(
                "another run has taken this node over, since this one gave no sign of life for a while",
                where=node,
                do="run the same command again: it takes over what the other run has built",
            )
        artifact, is_new = self._commit(node, manifest, work_key)
        self._tell_finished(artifact, context, result, started_at)
        return artifact, is_new

    def _context(self, node: str, work_key: str, given: Given) -> StageContext:
        graph = self.planner.graph
        work = self.planner.store.work_folder(graph.stages[node].name, work_key)
        resources, channel = self.resources(node), MailboxChannel(self.mailbox, node)
        is_followed = node in self.planner.followed
        return StageContext(
            node=node,
            key=work_key,
            inputs=gather_inputs(graph, node, given.artifacts, given.growing),
            output=work.child("output"),
            scratch=work.child("scratch"),
            resources=resources,
            channel=channel,
            map=RayMap(node, work, resources, channel, self.stop, is_followed),
            is_followed=is_followed,
            tracking_uri=self.tracking_uri,
            registry_uri=self.registry_uri,
            measured=self.planner.store.measured,
            lineage={parent: key for parent, (_, key) in given.origins().items()},
            stop=self.stop,
        )

    def _offer(self, stage: Stage, context: StageContext) -> None:
        names = stage.announced(context.inputs) if context.is_followed else ()
        if names:
            store = self.planner.store
            self.offer(
                Growing(
                    node=context.node,
                    stage=stage.name,
                    key=context.key,
                    kind=stage.produces,
                    names=names,
                    work=store.work_folder(stage.name, context.key),
                    target=store.artifact_folder(stage.name, context.key),
                    claims=store.root.child(f"locks/{stage.name}/{context.key}"),
                )
            )

    def _with_whole_inputs(self, context: StageContext, given: Given) -> tuple[StageContext, dict[str, Any]]:
        """Of a node that followed others: what it took once that is whole, and the node's identity."""
        artifacts = dict(given.artifacts) | {node: self.awaited(node) for node in given.growing}
        inputs = gather_inputs(self.planner.graph, context.node, artifacts)
        return replace(context, inputs=inputs), self.planner.identify(context.node, artifacts)

    def _commit(self, node: str, manifest: Manifest, work_key: str) -> tuple[Artifact, bool]:
        """Where the node followed others, the same artifact may have come to be meanwhile: then that one is taken."""
        store = self.planner.store
        if manifest.key == work_key:
            artifact = store.commit(manifest)
        else:
            with self._lock(manifest.stage, manifest.key).held():
                if found := self.planner.find(node, manifest.key):
                    store.work_folder(manifest.stage, work_key).delete()
                    self.listener(NodeNote(node, "came to the same as an artifact that was there already"))
                    return found, False
                artifact = store.commit(manifest, work_key)
        if artifact.folder.is_local:
            for file in artifact.manifest.files:
                self.planner.memory.remember(artifact.folder.at(file.name), file.sha256)
        return artifact, True

    def _tell_finished(
        self, artifact: Artifact, context: StageContext, result: StageResult, started_at: float
    ) -> None:
        self.pass_events_on()
        self.listener(
            NodeFinished(
                node=context.node,
                stage=artifact.manifest.stage,
                key=artifact.manifest.key,
                url=artifact.folder.url,
                digest=artifact.manifest.digest,
                seconds=time.time() - started_at,
                counters=result.counters,
                metrics=result.metrics,
                pages=result.pages,
                tags=input_tags(context),
            )
        )

    def _reused(self, node: str, artifact: Artifact) -> Artifact:
        manifest = artifact.manifest
        self.listener(NodeReused(node, manifest.stage, manifest.key, artifact.folder.url))
        if node not in self.planner.pins:
            self.planner.store.note_last(self.planner.recipe, node, manifest.stage, manifest.key)
        return artifact

    def _lock(self, stage: str, key: str) -> Lock:
        return Lock(self.planner.store.root.child(f"locks/{stage}/{key}"))

    def _tell_waiting(self, node: str, holder: ProcessId) -> None:
        text = f"waits: another run (process {holder.pid} on {holder.host}) is building it"
        self.listener(NodeNote(node, text))
