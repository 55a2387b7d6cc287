"""One trial in its own process: a runner inside a Ray Tune trainable, which tells the search what it learns."""

import os
import queue
import threading
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import tune

from pipeline.dag.events import Event, NodeFailed, NodeMetrics
from pipeline.dag.graph import Graph
from pipeline.dag.plan import Planner
from pipeline.dag.resources import Resources
from pipeline.dag.runner import Runner
from pipeline.dag.stage import Stage
from pipeline.dag.store import Store
from pipeline.errors import HeadraceError, StageFailedError
from pipeline.tune.trials import TrialStatus

STEP, VALUE = "step", "value"
"What a trial reports to Ray Tune; a report without them says only that it lives."
REPORT_SECONDS = 1.0
FAREWELL_SECONDS = 10.0
EXIT_SECONDS = 1.0
"For the answer to Ray Tune to get out."
STOPPED = StageFailedError("stopped early by asha: others were better at this step")


@dataclass(frozen=True)
class TrialOrder:
    """All that a trial's process needs."""

    number: int
    stages: dict[str, Stage]
    resources: dict[str, Resources]
    node: str
    "The node that decides."
    metric: str
    last_step: int
    "Of the deciding node's training: what is reported for it waits for the artifact, so that asha cannot come between."
    store_url: str
    recipe: str
    run_id: str
    tracking_uri: str
    registry_uri: str
    working_folder: str
    "Paths of a recipe are relative to it."


@dataclass(frozen=True)
class TrialEnd:
    """The last that a trial tells the search."""

    status: TrialStatus
    artifact_key: str = ""
    step: int = 0
    value: float | None = None


class TrialRun(tune.Trainable):
    """Builds the deciding node of one trial, and all above it that is not in the store.

    It takes no core of its own: the stages' tasks and ranks do, as in a run without a search, each as a whole. So
    trials cannot wait for each other in a circle, however few cores there are.
    """

    def setup(self, config: dict[str, Any], orders: dict[int, TrialOrder], mailbox: Any) -> None:
        self._order, self._mailbox = orders[config["trial"]], mailbox
        os.chdir(self._order.working_folder)
        self._reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stopping = threading.Event()
        order = self._order
        planner = Planner(Graph(order.stages), Store(order.store_url), recipe=order.recipe)
        self._runner = Runner(
            planner,
            resources=lambda node: order.resources[node],
            listener=self._listen,
            run_id=order.run_id,
            tracking_uri=order.tracking_uri,
            registry_uri=order.registry_uri,
        )
        self._thread = threading.Thread(target=self._work, args=(planner,), daemon=True)
        self._thread.start()

    def step(self) -> dict[str, Any]:
        """The next report; an empty one where there is none for a while, so that the trial can be stopped."""
        try:
            return self._reports.get(timeout=REPORT_SECONDS)
        except queue.Empty:
            return {}

    def cleanup(self) -> None:
        """Ray Tune ends the trial: after its last report, or before, and then what runs is given up.

        A process that Ray lets go in peace waits for the calls it has made, among them that of its training, and so
        would keep the ranks and their cores. It ends by itself, and what it owns ends with it.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._runner.give_up(STOPPED)
            self._thread.join(FAREWELL_SECONDS)
            farewell = threading.Timer(EXIT_SECONDS, os._exit, args=(0,))
            farewell.daemon = True
            farewell.start()

    def _work(self, planner: Planner) -> None:
        """In its thread: run, and tell the end of it."""
        try:
            end = self._run(planner)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the search must hear of it
            cause = error if isinstance(error, HeadraceError) else _unexpected(error)
            self._listen(NodeFailed(self._order.node, cause))
            end = TrialEnd(TrialStatus.failed)
        self._tell({"end": end})
        report = {} if end.value is None else {STEP: end.step, VALUE: end.value}
        self._reports.put({**report, "done": True})

    def _run(self, planner: Planner) -> TrialEnd:
        node = self._order.node
        outcome = self._runner.run(planner.plan([node]))
        if node not in outcome.artifacts:
            return TrialEnd(TrialStatus.stopped if self._stopping.is_set() else TrialStatus.failed)
        manifest = outcome.artifacts[node].manifest
        status = TrialStatus.finished if node in outcome.built else TrialStatus.reused
        return TrialEnd(status, manifest.key, self._order.last_step, manifest.metrics.get(self._order.metric))

    def _listen(self, event: Event) -> None:
        if isinstance(event, NodeFailed) and self._stopping.is_set():
            event = replace(event, interrupted=True)
        self._tell({"event": event})
        if isinstance(event, NodeMetrics) and event.node == self._order.node:
            value = event.metrics.get(self._order.metric)
            if value is not None and event.step < self._order.last_step:
                self._reports.put({STEP: event.step, VALUE: value})

    def _tell(self, message: dict[str, Any]) -> None:
        """Wait until it has arrived: the process may end right after."""
        ray.get(self._mailbox.put.remote(str(self._order.number), message))


def _unexpected(error: BaseException) -> StageFailedError:
    return StageFailedError(
        f"{type(error).__name__}: {error}",
        where="the trial's process",
        allowed="a trial that ends without an error",
        do="look into the log; the same command continues where this one stopped",
    )
