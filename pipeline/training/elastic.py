"""How many ranks there are places for, and word to the ranks of it: Ray Train's scaling, for trainings that may shrink.

Ray's own elastic policy takes any number of workers, counts nodes that are being drained, ends the ranks without a
checkpoint when it finds room for more, and learns of a lost node up to 20 seconds later, from an actor that outlives
the run. This one counts what Ray Core says is free at the moment, takes only numbers that share out the global batch,
and asks the ranks to leave (`pipeline.training.departure`).
"""

import math
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state as cluster_state
from ray.train.constants import TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S
from ray.train.v2._internal.constants import WORKER_GROUP_START_TIMEOUT_S_ENV_VAR
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller.state import ReschedulingState
from ray.train.v2._internal.execution.scaling_policy import (
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
    ScalingPolicy,
)
from ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client import (
    TrainAutoscalingCoordinatorClient,
)

from pipeline.dag.resources import Resources
from pipeline.dag.stage import Channel
from pipeline.training.departure import Notice

GROW_SECONDS = 15.0
"Between two looks for room for more ranks; what two of them in a row find is taken."
SETTLE_SECONDS = 5.0
"For which fewer ranks than asked for wait: what the last ones held comes free, tasks of other nodes end."
START_SECONDS = "15"
"After which places that do not come are counted again: a node that has just been lost looks alive for a while."
END_SECONDS = "5"
"After which ranks that are to end are killed: one of a lost machine answers nothing."
REFUSED_SECONDS = 60.0
"For which a number of ranks that could not be placed is not tried again, though there seems to be room."
ANSWER_SECONDS = 2.0
"For which a node may leave a connection unanswered."
WAIT_TOLD_SECONDS = 30.0
ROUNDING = 1e-6

_told: list[Notice] = []
"In a rank's process: what the policy has told it."


def num_places(per_worker: Mapping[str, float], held: Mapping[str, int] | None = None) -> int:
    """Ranks for which the cluster has room, in nodes that live and stay; `held`: those that run, by node."""
    staying = living_nodes() - set(cluster_state.get_draining_nodes())
    free = cluster_state.available_resources_per_node()
    held = held or {}
    return sum(held.get(node, 0) + _fitting(free.get(node, {}), per_worker) for node in staying)


def living_nodes() -> set[str]:
    """Those that answer: the cluster itself takes 15 seconds and more to notice that a machine is gone."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"] and _answers(node)}


def _answers(node: dict[str, Any]) -> bool:
    with suppress(OSError):
        address = (node["NodeManagerAddress"], node["NodeManagerPort"])
        with socket.create_connection(address, timeout=ANSWER_SECONDS):
            return True
    return False


def _fitting(free: Mapping[str, float], per_worker: Mapping[str, float]) -> int:
    return min(int((free.get(kind, 0) + ROUNDING) // number) for kind, number in per_worker.items() if number)


class AsManyAsThereAre(ScalingPolicy):
    """The largest of the world sizes that are allowed for which there are places."""

    def __init__(self, scaling_config: Any, *, world_sizes: list[int], channel: Channel) -> None:
        super().__init__(scaling_config)
        self._sizes, self._channel = sorted(world_sizes), channel
        self._per_worker: dict[str, float] = scaling_config._resources_per_worker_not_none  # noqa: SLF001
        self._waiting_since: float | None = None
        self._is_wait_told = False
        self._looked_at = 0.0
        self._found_before = 0
        "Ranks for which the last look has found room."
        self._asked_for = 0
        self._refused_at: dict[int, float] = {}
        "When so many ranks were asked for last and could not be placed."
        self._told_group: float | None = None
        "When the group of ranks started that was told to leave."

    def after_controller_start(self, train_run_context: Any) -> None:
        """In the controller's process. Whoever makes room for more is asked only while there are too few."""
        os.environ[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] = START_SECONDS  # the worker group reads them here
        os.environ[TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S] = END_SECONDS
        self._requester_id = f"train-{train_run_context.run_id}"
        self._coordinator_client = TrainAutoscalingCoordinatorClient(self._requester_id)
        self._is_asking = False

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """What was asked for and did not come is not asked for again at once."""
        del previous_state
        if isinstance(current_state, ReschedulingState):
            self._refused_at[self._asked_for] = time.monotonic()

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        waited = now - self._waiting_since
        size = self._largest(num_places(self._per_worker))
        if size < self._sizes[-1] and (waited < SETTLE_SECONDS or not size):
            if waited >= SETTLE_SECONDS:
                self._ask_for_nodes()
            self._tell_wait(waited)
            return NoopDecision()
        self._waiting_since, self._is_wait_told = None, False
        self._looked_at, self._found_before = now, 0
        self._asked_for = size
        return ResizeDecision(num_workers=size, resources_per_worker=self._per_worker)

    def make_decision_for_running_worker_group(
        self,
        worker_group_state: Any,
        worker_group_status: Any,  # noqa: ARG002 - Ray's signature
    ) -> ScalingDecision:
        """Nothing: where there is room for more, the ranks are asked to leave, and end by themselves."""
        now = time.monotonic()
        is_whole = worker_group_state.num_workers == self._sizes[-1]
        pause = self.scaling_config.elastic_resize_monitor_interval_s
        if is_whole or now - self._looked_at < pause or self._told_group == worker_group_state.start_time:
            return NoopDecision()
        self._looked_at = now
        self._ask_for_nodes()
        held = Counter(worker.metadata.node_id for worker in worker_group_state.workers)
        size = self._largest(num_places(self._per_worker, held))
        if worker_group_state.num_workers < size <= self._found_before:
            self._told_group = worker_group_state.start_time
            for worker in worker_group_state.workers:
                worker.execute_async(tell, Notice(f"there is room for {size} ranks", can_leave=True))
        self._found_before = size
        return NoopDecision()

    def _largest(self, places: int) -> int:
        """World size for so many places; 0: there are too few."""
        now = time.monotonic()
        fitting = [size for size in self._sizes if size <= places]
        likely = [size for size in fitting if now - self._refused_at.get(size, -math.inf) >= REFUSED_SECONDS]
        return max(likely or fitting[:1], default=0)

    def _get_num_workers_for_resource_request(self) -> int:
        return self._sizes[-1]

    def _ask_for_nodes(self) -> None:
        """An autoscaler, where there is one; Ray sends it no more often than every 20 seconds."""
        self._is_asking = True
        self._maybe_send_resource_request()

    def _cancel_resource_request(self) -> None:
        if self._is_asking:
            super()._cancel_resource_request()

    def _tell_wait(self, seconds: float) -> None:
        if seconds >= WAIT_TOLD_SECONDS and not self._is_wait_told:
            self._is_wait_told = True
            words = f"waits for places for {self._sizes[0]} ranks: there are {num_places(self._per_worker)}"
            self._channel.send({"kind": "note", "text": words})


def tell(notice: Notice) -> None:
    """Called in a rank's process, by the policy, while the rank trains in another thread."""
    _told.append(notice)


@dataclass
class Ear:
    """What this rank hears from outside: the policy above, and Ray Train's watcher of nodes that are being drained."""

    resources: Resources
    world_size: int
    least: int
    "Ranks that the training can go on with."
    _drained: Any = None
    _notice: Notice | None = None
    "Of `_drained`."

    def __call__(self) -> Notice | None:
        drained = get_train_context().preemption_context.preemption_info
        if drained is None:
            return _told[-1] if _told else None
        if drained != self._drained:  # whether there is room elsewhere is asked of the cluster once
            self._drained, self._notice = drained, self._of_drain(drained)
        return self._notice

    def _of_drain(self, drained: Any) -> Notice:
        nodes = ", ".join(node[:8] for node in drained.preempted_node_ids)
        left = (drained.deadline_ms or 0) / 1000 - time.time()
        until = f", and goes in {left:.0f} s" if left > 0 else ""
        staying = self.world_size - len(drained.preempted_ranks)
        places = staying + num_places(per_worker(self.resources))
        return Notice(f"node {nodes} is being drained{until}", can_leave=places >= self.least)


def per_worker(resources: Resources) -> dict[str, float]:
    """What each rank asks Ray for."""
    gpus = resources.num_gpus or 0
    return {"CPU": float(resources.cpus_per_worker or 1)} | ({"GPU": float(gpus)} if gpus else {})
