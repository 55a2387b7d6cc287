"""The runner: ready nodes side by side, each built under its lock and committed, every event told."""

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.dag.builder import Builder, Given
from pipeline.dag.events import (
    Event,
    NodeFailed,
    NodeMetrics,
    NodeNote,
    NodeProgress,
)
from pipeline.dag.failure import explain
from pipeline.dag.following import Growing
from pipeline.dag.plan import Plan, Planner
from pipeline.dag.resources import Resources
from pipeline.dag.store import Artifact
from pipeline.dag.tasks import END_SECONDS, drain, new_mailbox
from pipeline.errors import HeadraceError, StageFailedError

POLL_SECONDS = 0.2
LOSS_SECONDS = 2.0
"For which a node that was given up is waited for, since what it waits for may never answer."


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
        self._outcome = Outcome()
        self._threads: list[threading.Thread] = []
        self._growing: dict[str, Growing] = {}
        "What running nodes write, and others may begin on."

    def run(self, plan: Plan) -> Outcome:
        """Build what the plan lacks. A failed node stops new ones; those that run are let finish.

        Nodes that were given up are waited for, within bounds: Ray is not to be left while their threads speak to it.
        """
        self._mailbox = new_mailbox()
        self._builder = self._new_builder()
        outcome = self._outcome = Outcome()
        settled: queue.Queue[tuple[str, Artifact | HeadraceError, bool]] = queue.Queue()
        waiting = [each.node for each in plan.nodes]
        running: set[str] = set()
        try:
            while running or waiting:
                for node in self._ready(waiting, outcome):
                    waiting.remove(node)
                    running.add(node)
                    given = self._given(node, outcome)
                    self._begin(node, given, settled)
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
            with suppress(KeyboardInterrupt):  # a second one does not wait
                self._let_end(END_SECONDS + POLL_SECONDS)
            return outcome
        self._stop.set()
        if self._given_up:
            self._let_end(LOSS_SECONDS)
        else:
            self._pass_events_on()
        return outcome

    def give_up(self, reason: HeadraceError) -> None:
        """End the run: every node that runs fails with `reason`, without waiting for what may never answer."""
        self._given_up = reason
        self._stop.set()

    def _begin(self, node: str, given: Given, settled: "queue.Queue[Any]") -> None:
        thread = threading.Thread(target=self._settle, args=(node, given, settled), name=node, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _let_end(self, seconds: float) -> None:
        """Wait for the threads of all nodes, for so long together."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _new_builder(self) -> Builder:
        return Builder(
            planner=self._planner,
            resources=self._resources,
            listener=self._listener,
            mailbox=self._mailbox,
            stop=self._stop,
            offer=self._offer,
            awaited=self._awaited,
            pass_events_on=self._pass_events_on,
            run_id=self._run_id,
            tracking_uri=self._tracking_uri,
            registry_uri=self._registry_uri,
        )

    def _ready(self, waiting: list[str], outcome: Outcome) -> list[str]:
        if outcome.failed:
            return []
        return [node for node in waiting if node in self._planner.pins or self._can_begin(node, outcome)]

    def _can_begin(self, node: str, outcome: Outcome) -> bool:
        """Every input is whole, or growing where the node can follow it."""
        ports = self._graph.stages[node].follows()
        return all(
            edge.node in outcome.artifacts or (name in ports and edge.node in self._growing)
            for name, edges in self._graph.edges[node].items()
            for edge in edges
        )

    def _given(self, node: str, outcome: Outcome) -> Given:
        growing = {
            parent: self._growing[parent]
            for parent in self._graph.parents(node)
            if parent not in outcome.artifacts and parent in self._growing
        }
        return Given(dict(outcome.artifacts), growing)

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
        self._growing.pop(node, None)
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

    def _settle(self, node: str, given: Given, settled: "queue.Queue[Any]") -> None:
        """In the node's thread: reuse or build it, and put the result or the failure on the queue."""
        try:
            settled.put((node, *self._builder.settle(node, given)))
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the main loop, whatever it is
            settled.put((node, explain(error, node=node, store_url=self._store.url), False))

    def _awaited(self, node: str) -> Artifact:
        """In another node's thread: the artifact of `node`, once it is whole."""
        while node not in self._outcome.artifacts:
            if node in self._outcome.failed or self._stop.is_set():
                raise StageFailedError(
                    f'"{node}", which this node follows, was not finished',
                    where=node,
                    allowed="a node that is built to its end",
                    do="mend what made it fail, and run the same command again: both continue where they stopped",
                )
            time.sleep(POLL_SECONDS)
        return self._outcome.artifacts[node]

    def _offer(self, growing: Growing) -> None:
        self._growing[growing.node] = growing

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
