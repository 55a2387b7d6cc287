"""The runner: ready nodes side by side, each built under its lock and committed, every event told."""

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.dag import facts
from pipeline.dag.events import (
    Event,
    NodeFailed,
    NodeFinished,
    NodeMetrics,
    NodeNote,
    NodeProgress,
    NodeReused,
    NodeStarted,
)
from pipeline.dag.failure import explain
from pipeline.dag.fingerprint import canonical, fingerprint
from pipeline.dag.lineage import describe, gather_inputs, input_tags
from pipeline.dag.lock import Lock
from pipeline.dag.plan import Plan, Planner
from pipeline.dag.process import ProcessId
from pipeline.dag.resources import Resources
from pipeline.dag.stage import StageContext
from pipeline.dag.store import Artifact
from pipeline.dag.tasks import MailboxChannel, RayMap, drain, new_mailbox
from pipeline.errors import HeadraceError, StageFailedError

POLL_SECONDS = 0.2


@dataclass
class Outcome:
    """What a run came to."""

    artifacts: dict[str, Artifact] = field(default_factory=dict)
    built: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, HeadraceError] = field(default_factory=dict)
    is_interrupted: bool = False
    "By the user: nodes that ran were given up, and their finished work stays."


class Runner:
    """Runs a plan on the Ray cluster that this process is connected to.

    Args:
        planner: knows the graph, the store and the fingerprints.
        resources: the resources of a node, by its name.
        listener: told every event, from several threads.
        run_id: this run's name in manifests.
        tracking_uri, registry_uri: where MLflow keeps runs, and models where that is another place.
    """

    def __init__(
        self,
        planner: Planner,
        *,
        resources: Callable[[str], Resources],
        listener: Callable[[Event], None],
        run_id: str,
        tracking_uri: str = "",
        registry_uri: str = "",
    ) -> None:
        self._planner, self._graph, self._store = planner, planner.graph, planner.store
        self._resources, self._listener = resources, listener
        self._run_id, self._tracking_uri, self._registry_uri = run_id, tracking_uri, registry_uri
        self._stop = threading.Event()
        self._given_up: HeadraceError | None = None
        self._draining = threading.Lock()
        self._mailbox: Any = None

    def run(self, plan: Plan) -> Outcome:
        """Build what the plan lacks. A failed node stops new ones; those that run are let finish."""
        self._mailbox = new_mailbox()
        outcome = Outcome()
        settled: queue.Queue[tuple[str, Artifact | HeadraceError, bool]] = queue.Queue()
        waiting = [each.node for each in plan.nodes]
        running: set[str] = set()
        try:
            while running or waiting:
                for node in self._ready(waiting, outcome):
                    waiting.remove(node)
                    running.add(node)
                    given = dict(outcome.artifacts)
                    threading.Thread(
                        target=self._settle, args=(node, given, settled), name=node, daemon=True
                    ).start()
                if not running:
                    break
                self._wait_for_one(settled, running, outcome)
        except KeyboardInterrupt:
            self._stop.set()
            interruption = StageFailedError(
                "interrupted", do="the same command continues where this one stopped"
            )
            for node in running:
                self._listener(NodeFailed(node, interruption, interrupted=True))
            outcome.is_interrupted = True
            return outcome
        self._stop.set()
        if not self._given_up:
            self._pass_events_on()
        return outcome

    def give_up(self, reason: HeadraceError) -> None:
        """End the run: every node that runs fails with `reason`, without waiting for what may never answer."""
        self._given_up = reason
        self._stop.set()

    def _ready(self, waiting: list[str], outcome: Outcome) -> list[str]:
        if outcome.failed:
            return []
        return [
            node for node in waiting if all(parent in outcome.artifacts for parent in self._parents_of(node))
        ]

    def _parents_of(self, node: str) -> list[str]:
        return [] if node in self._planner.pins else self._graph.parents(node)

    def _wait_for_one(
        self,
        settled: "queue.Queue[tuple[str, Artifact | HeadraceError, bool]]",
        running: set[str],
        outcome: Outcome,
    ) -> None:
        if self._given_up:
            self._fail_all(running, outcome, self._given_up)
            return
        self._pass_events_on()
        try:
            node, result, built = settled.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return
        running.discard(node)
        if isinstance(result, HeadraceError):
            first_cause = self._given_up or result  # a node that was given up knows no more than that
            outcome.failed[node] = first_cause
            self._listener(NodeFailed(node, first_cause))
            return
        outcome.artifacts[node] = result
        (outcome.built if built else outcome.reused).append(node)

    def _fail_all(self, running: set[str], outcome: Outcome, reason: HeadraceError) -> None:
        for node in sorted(running):
            outcome.failed[node] = reason
            self._listener(NodeFailed(node, reason))
        running.clear()

    def _settle(self, node: str, artifacts: Mapping[str, Artifact], settled: "queue.Queue[Any]") -> None:
        """In the node's thread: reuse or build it, and put the result or the failure on the queue."""
        try:
            artifact, built = self._artifact_of(node, artifacts)
            settled.put((node, artifact, built))
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the main loop, whatever it is
            settled.put((node, explain(error, node=node, store_url=self._store.url), False))

    def _artifact_of(self, node: str, artifacts: Mapping[str, Artifact]) -> tuple[Artifact, bool]:
        if node in self._planner.pins:
            return self._reused(node, self._planner.pins[node]), False
        stage = self._graph.stages[node]
        identity = self._planner.identify(node, artifacts)
        key = fingerprint(identity)
        if found := self._planner.find(node, key):
            return self._reused(node, found), False
        lock = Lock(self._store.root.child(f"locks/{stage.name}/{key}"))
        with lock.held(on_wait=lambda holder: self._tell_waiting(node, holder)):
            found = self._store.recover(stage.name, key) or self._planner.find(node, key)
            if found:
                return self._reused(node, found), False
            artifact = self._build(node, key, identity, artifacts, lock)
        self._store.note_last(self._planner.recipe, node, stage.name, key)
        return artifact, True

    def _build(
        self,
        node: str,
        key: str,
        identity: dict[str, Any],
        artifacts: Mapping[str, Artifact],
        lock: Lock,
    ) -> Artifact:
        stage = self._graph.stages[node]
        started_at = time.time()
        is_resumed = bool(self._store.work_folder(stage.name, key).files())
        context = self._context(node, key, artifacts)
        params = {"stage": stage.name} | canonical(stage.identity())
        self._listener(NodeStarted(node, stage.name, key, params, input_tags(context)))
        result = stage.run(context)
        if self._stop.is_set():
            raise StageFailedError("given up, since the run is ending", where=node)
        now = facts.gather(self._run_id, started_at, canonical(context.resources)) | {"resumed": is_resumed}
        manifest = describe(stage, context, identity, result, facts=now, pinned=self._planner.pins)
        if not lock.still_held():
            raise StageFailedError(
                "another run has taken this node over, since this one gave no sign of life for a while",
                where=node,
                do="run the same command again: it takes over what the other run has built",
            )
        artifact = self._store.commit(manifest)
        self._remember_digests(artifact)
        self._pass_events_on()
        self._listener(
            NodeFinished(
                node=node,
                stage=stage.name,
                key=key,
                url=artifact.folder.url,
                digest=manifest.digest,
                seconds=time.time() - started_at,
                counters=result.counters,
                metrics=result.metrics,
                pages=result.pages,
            )
        )
        return artifact

    def _context(self, node: str, key: str, artifacts: Mapping[str, Artifact]) -> StageContext:
        work = self._store.work_folder(self._graph.stages[node].name, key)
        resources = self._resources(node)
        channel = MailboxChannel(self._mailbox, node)
        return StageContext(
            node=node,
            key=key,
            inputs=gather_inputs(self._graph, node, artifacts),
            output=work.child("output"),
            scratch=work.child("scratch"),
            resources=resources,
            channel=channel,
            map=RayMap(node, work, resources, channel, self._stop),
            tracking_uri=self._tracking_uri,
            registry_uri=self._registry_uri,
            lineage={parent: artifacts[parent].manifest.key for parent in artifacts},
        )

    def _remember_digests(self, artifact: Artifact) -> None:
        if artifact.folder.is_local:
            for file in artifact.manifest.files:
                self._planner.memory.remember(artifact.folder.at(file.name), file.sha256)

    def _reused(self, node: str, artifact: Artifact) -> Artifact:
        manifest = artifact.manifest
        self._listener(NodeReused(node, manifest.stage, manifest.key, artifact.folder.url))
        if node not in self._planner.pins:
            self._store.note_last(self._planner.recipe, node, manifest.stage, manifest.key)
        return artifact

    def _tell_waiting(self, node: str, holder: ProcessId) -> None:
        self._listener(
            NodeNote(node, f"waits: another run (process {holder.pid} on {holder.host}) is building it")
        )

    def _pass_events_on(self) -> None:
        with self._draining:
            for node, event in drain(self._mailbox):
                self._listener(_as_event(node, event))


def _as_event(node: str, event: dict[str, Any]) -> Event:
    values = {name: value for name, value in event.items() if name != "kind"}
    kinds: dict[str, Callable[..., Event]] = {
        "progress": NodeProgress,
        "metrics": NodeMetrics,
        "note": NodeNote,
    }
    return kinds[event["kind"]](node, **values)


def new_run_id() -> str:
    """Sortable by time, unique on one host: `20260131-094500-4711`."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}"
