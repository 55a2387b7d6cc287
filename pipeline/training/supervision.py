"""Ray Train's trainer, with its failure policy and its extra actors as a run of ours needs them."""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

from pipeline.training.failure import RankError


class RestartLostRanks(DefaultFailurePolicy):
    """Starts again when ranks were lost, and not when one failed of something that would happen again."""

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        failures = getattr(training_failed_error, "worker_failures", {}).values()
        if any(isinstance(error, RankError) and not error.failure.may_pass for error in failures):
            return FailureDecision.RAISE
        return super().make_decision(training_failed_error)


class Trainer(TorchTrainer):
    """A `TorchTrainer` without the actor that watches for a dead controller: it asks the dashboard, which a local run
    does not start, and prints a warning each second that there is none. Ray removes a placement group with the job.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [each for each in callbacks if not isinstance(each, PlacementGroupCleanerCallback)]

    def _initialize_and_run_controller(self, **kwargs: Any) -> Any:
        kwargs["failure_policy"] = RestartLostRanks(self.run_config.failure_config)
        return super()._initialize_and_run_controller(**kwargs)
