"""Ray Train's trainer, with its failure policy and its extra actors as a run of ours needs them.

Each actor that Ray Train starts beside the workers is a process of its own, and a second or two before the first step.
"""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

from pipeline.training.failure import RankError

UNUSED = (
    DatasetsCallback,  # our batches are not Ray Data's; without it no worker imports Ray Data either
    # It asks the dashboard for a dead controller, and warns each second where none runs. Ray itself removes the
    # placement group with the job.
    PlacementGroupCleanerCallback,
)


class RestartLostRanks(DefaultFailurePolicy):
    """Starts again when ranks were lost, and not when one failed of something that would happen again."""

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        failures = getattr(training_failed_error, "worker_failures", {}).values()
        if any(isinstance(error, RankError) and not error.failure.may_pass for error in failures):
            return FailureDecision.RAISE
        return super().make_decision(training_failed_error)


class AsManyAsAsked(FixedScalingPolicy):
    """A fixed number of workers, asked for by their placement group alone: autoscalers count what is pending."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray's policy would start an actor that asks the autoscaler a second time."""

    def _maybe_send_resource_request(self) -> None:
        """Likewise."""


class Trainer(TorchTrainer):
    """A `TorchTrainer` with the policies above, and without the actors that a run of ours does not use."""

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if not isinstance(each, UNUSED)]

    def _initialize_and_run_controller(self, **kwargs: Any) -> Any:
        kwargs["failure_policy"] = RestartLostRanks(self.run_config.failure_config)
        kwargs["scaling_policy"] = AsManyAsAsked(self.scaling_config)
        return super()._initialize_and_run_controller(**kwargs)
