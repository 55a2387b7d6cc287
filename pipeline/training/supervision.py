"""Ray Train's trainer, with its policies, its controller and its extra actors as a run of ours needs them.

Each actor that Ray Train starts beside the workers is a process of its own, and a second or two before the first step.
"""

import asyncio
import time
from contextlib import suppress
from threading import Event
from typing import Any

import ray
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy, ScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup

from pipeline.dag.folder import Folder
from pipeline.errors import StageFailedError
from pipeline.training.elastic import living_nodes
from pipeline.training.failure import RankError

WAIT_SECONDS = 0.25
"Between two looks: for places for ranks, and whether the run is given up."
NODE_DEATH_SECONDS = 10.0
"For which a failure that would end an elastic run waits to be told that a node was lost."
UNUSED = (
    DatasetsCallback,  # our batches are not Ray Data's; without it no worker imports Ray Data either
    # It asks the dashboard for a dead controller, and warns each second where none runs. Ray itself removes the
    # placement group with the job.
    PlacementGroupCleanerCallback,
)


class RestartLostRanks(DefaultFailurePolicy):
    """Starts again when ranks were lost or have left, and not when one failed of something that would happen again.

    Of an elastic training (`scratch` is given) a lost node is no failure, and failures count only as long as no new
    checkpoint comes between them: what is limited is work that is done in vain, not the length of the run.
    """

    def __init__(self, failure_config: Any, *, scratch: Folder | None = None) -> None:
        super().__init__(failure_config)
        self._scratch, self._newest_step = scratch, -1
        self.nodes: set[str] = set()
        "Of the ranks that run or have just failed; the controller tells."

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        failures = getattr(training_failed_error, "worker_failures", {}).values()
        ranks = [error.failure for error in failures if isinstance(error, RankError)]
        if any(each.has_left for each in ranks):
            return FailureDecision.RETRY
        if any(not each.may_pass for each in ranks):
            return FailureDecision.RAISE
        if self._scratch is None or not failures:
            return super().make_decision(training_failed_error)
        self._forget_before_new_checkpoint(self._scratch)
        is_last = self._worker_group_failures >= self.failure_config.max_failures
        if self._has_lost_node(within=NODE_DEATH_SECONDS if is_last else 0.0):
            return FailureDecision.RETRY
        return super().make_decision(training_failed_error)

    def _forget_before_new_checkpoint(self, scratch: Folder) -> None:
        from pipeline.training.checkpoint import steps_saved

        with suppress(OSError):
            newest = max(steps_saved(scratch), default=-1)
            if newest > self._newest_step:
                self._newest_step, self._worker_group_failures = newest, 0

    def _has_lost_node(self, *, within: float) -> bool:
        """Survivors fail of a broken connection before the cluster has noticed whose."""
        until = time.monotonic() + within
        while True:
            if self.nodes - living_nodes():
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(WAIT_SECONDS)


class AsManyAsAsked(FixedScalingPolicy):
    """A fixed number of workers, asked for by their placement group alone: autoscalers count what is pending."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray's policy would start an actor that asks the autoscaler a second time."""

    def _maybe_send_resource_request(self) -> None:
        """Likewise."""


class Workers(WorkerGroup):
    """Ray Train's worker group; one that fails while it connects its ranks gives back what it holds."""

    def _start(self) -> None:
        try:
            super()._start()
        except Exception:
            if self.has_started():  # Ray forgets it then, and its places with it
                self._worker_group_state.shutdown()
            raise


class Controller(TrainController):
    """Ray Train's controller; a group that has failed is gone before the number of its successors is decided."""

    worker_group_cls = Workers

    async def _step(self) -> Any:
        result = await super()._step()
        if result.next_state is result.previous_state:  # Ray would look again at once, and for ever
            await asyncio.sleep(WAIT_SECONDS)
        return result

    def _make_and_handle_scaling_decision_for_non_running_worker_group(self, controller_state: Any) -> Any:
        group = self.get_worker_group()
        self._worker_group = None
        if group:
            with suppress(Exception):  # of ranks that are gone already
                group.shutdown()
        return super()._make_and_handle_scaling_decision_for_non_running_worker_group(controller_state)

    def _start_worker_group(self, num_workers: int, resources_per_worker: dict[str, float]) -> None:
        super()._start_worker_group(num_workers, resources_per_worker)
        group = self.get_worker_group()
        workers = group.get_workers() if group else []
        self._failure_policy.nodes = {worker.metadata.node_id for worker in workers}


class Trainer(TorchTrainer):
    """A `TorchTrainer` with the policies and the controller above, without the actors that a run of ours does not use.

    Args:
        scaling: None: a fixed number of workers.
        scratch: where the checkpoints of an elastic training are.
        stop: once it is set, `fit` ends the ranks and raises StageFailedError.
        arguments: Ray's.
    """

    def __init__(
        self,
        *arguments: Any,
        scaling: ScalingPolicy | None,
        scratch: Folder | None,
        stop: Event,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._scaling, self._scratch, self._stop = scaling, scratch, stop

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if not isinstance(each, UNUSED)]

    def _initialize_and_run_controller(self, **kwargs: Any) -> Any:
        """As Ray's, from any thread: a signal is the run's, not the trainer's."""
        kwargs["failure_policy"] = RestartLostRanks(self.run_config.failure_config, scratch=self._scratch)
        kwargs["scaling_policy"] = self._scaling or AsManyAsAsked(self.scaling_config)
        here = {ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}  # noqa: SLF001 - as Ray's
        environment = {"env_vars": get_env_vars_to_propagate() | {"RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0"}}
        kind = ray.remote(num_cpus=0, label_selector=here, runtime_env=environment)(Controller)
        controller = kind.remote(**kwargs)
        run = controller.run.remote()
        while not ray.wait([run], timeout=WAIT_SECONDS)[0]:
            if self._stop.is_set():
                ray.kill(controller)  # its ranks end with it
                raise StageFailedError("given up, since the run is ending")
        ray.get(run)
        return ray.get(controller.get_result.remote())
