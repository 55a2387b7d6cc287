"""Our config and resources as DeepSpeed's engine. One path for CPU ranks, one GPU and many."""

import contextlib
import gc
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from data.batches import Batch
from model.base import LanguageModel
from model.distillation import Teacher
from model.objectives import LossSum
from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError
from pipeline.training import loss_scale
from pipeline.training.compiling import eager
from pipeline.training.config import (
    WEIGHTS_STAGE,
    BatchSplit,
    Precision,
    TrainingConfig,
    offloads_to_disk,
    zero_stage_of,
)
from pipeline.training.diskmemory import DiskMemory, move_offloaded
from pipeline.training.gradients import lighten
from pipeline.training.loss_scale import LossScale, Scaling
from pipeline.training.memory import REDUCE_BUCKET
from pipeline.training.optimizer import add_to_average, build_optimizer, clip_gradients, set_learning_rate
from pipeline.training.pulse import Phase, Pulse
from pipeline.training.runtime import import_deepspeed
from pipeline.training.spikes import SpikeGuard
from pipeline.training.timing import Part, time_exchanges, timing_on


@dataclass(frozen=True)
class StepOutcome:
    """What an optimizer step came to."""

    grad_norm: float
    "Norm of the global batch's gradient before clipping."
    applied: bool
    "False where the gradient was not finite: nothing was changed, on any rank."
    scaling: Scaling | None = None
    "Of fp16: where it is there, a step that was not applied is one to skip."


def deepspeed_config(
    config: TrainingConfig, resources: Resources, split: BatchSplit, *, num_weights: int
) -> dict[str, Any]:
    """DeepSpeed's JSON; nothing else in the house writes a key of it. Buckets are no larger than all `num_weights`."""
    stage = zero_stage_of(config, resources, world_size=split.world_size)
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": min(REDUCE_BUCKET, num_weights)}
    if resources.offload_optimizer and stage > 0:
        zero["offload_optimizer"] = {"device": "cpu"}
    if resources.offload_parameters and stage == WEIGHTS_STAGE:
        zero["offload_param"] = {"device": "cpu"}
    settings = {
        "train_micro_batch_size_per_gpu": split.micro_batch_size,
        "gradient_accumulation_steps": split.gradient_accumulation_steps,
        "gradient_clipping": config.max_grad_norm if stage > 0 else 0.0,  # stage 0 is clipped in `apply`
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # torch's and our own: the tests compare them with a plain loop
        "zero_force_ds_cpu_optimizer": False,
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 1 << 62,
    }
    if config.precision is Precision.bf16:
        settings["bf16"] = {"enabled": True, "immediate_grad_update": True}
    if config.precision is Precision.fp16:
        settings["fp16"] = loss_scale.deepspeed_section()
    return settings


class Engine:
    """A DeepSpeed engine around an objective, with the few calls that the loop needs."""

    def __init__(
        self, objective: nn.Module, config: TrainingConfig, *, resources: Resources, split: BatchSplit
    ) -> None:
        deepspeed = import_deepspeed()
        _require_fp16(config, deepspeed.accelerator.get_accelerator())
        self.split, self.config = split, config
        self.num_updates = 0
        "Updates made, from the beginning of the run."
        self.spikes = SpikeGuard(config)
        self.pulse = Pulse()
        "Told what is being done; a watchdog may watch it."
        self.stage = zero_stage_of(config, resources, world_size=split.world_size)
        self.disk = DiskMemory(resources.offload_folder or "") if offloads_to_disk(resources) else None
        "Where what is offloaded lies, and copies of it; None: in memory."
        self._new_state = (
            self.disk.zeros_like if self.disk and resources.offload_optimizer else torch.zeros_like
        )
        num_weights = sum(parameter.numel() for parameter in objective.parameters())
        deepspeed.init_distributed(dist_backend=dist.get_backend(), verbose=False)
        # it prints the memory around each parameter group, and looks for garbage each time
        with contextlib.redirect_stdout(io.StringIO()), little_to_collect():
            self.deepspeed, *_ = deepspeed.initialize(
                model=objective,
                optimizer=build_optimizer(objective, config),
                config=deepspeed_config(config, resources, split, num_weights=num_weights),
                dist_init_required=False,
            )
        lighten(self.deepspeed.optimizer)
        if self.disk:
            move_offloaded(self.deepspeed.optimizer, self.disk, resources)
        if config.precision is Precision.fp32 and self.stage in (1, 2) and not resources.offload_optimizer:
            _share_weights(self.deepspeed.optimizer)
        scaled = config.precision is Precision.fp16
        self.loss_scale = LossScale(self.deepspeed.optimizer.loss_scaler) if scaled else None
        # With one rank there is nobody to average with, yet without this every gradient would be copied twice. Other
        # stages (and stage 1 in fp32) sort their gradients into partitions in the same call.
        unpartitioned = self.stage == 0 or (self.stage == 1 and config.precision is Precision.bf16)
        self.deepspeed.enable_backward_allreduce = split.world_size > 1 or not unpartitioned
        self.device = self.deepspeed.device
        self.timing = timing_on(self.device)
        if self.device.type == "cpu" and split.world_size > 1:
            time_exchanges(deepspeed.comm.comm.cdb, self.timing)

    @property
    def objective(self) -> nn.Module:
        module: nn.Module = self.deepspeed.module
        return module

    @property
    def model(self) -> LanguageModel:
        model = self.objective.model
        assert isinstance(model, LanguageModel)
        return model

    @property
    def teacher(self) -> Teacher | None:
        """From which the objective learns besides."""
        found: Teacher | None = getattr(self.objective, "teacher", None)
        return found

    @teacher.setter
    def teacher(self, teacher: Teacher) -> None:
        object.__setattr__(self.objective, "teacher", teacher)  # no part of the module, and not to be trained

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Torch's optimizer below DeepSpeed's."""
        found: torch.optim.Optimizer = self.deepspeed.basic_optimizer
        return found

    def new_state(self, flat: torch.Tensor) -> torch.Tensor:
        """Zeros, to be a state of the optimizer for these weights, where its states lie."""
        return self._new_state(flat)

    def accumulate(self, batch: Batch, *, num_targets: int, last: bool) -> LossSum:
        """Forward and backward of one micro batch; the sums of its losses, detached.

        The gradient that comes to be is that of the summed loss of the whole global batch over `num_targets`. DeepSpeed
        averages over ranks, so each rank's part is multiplied by their number, and its division by the accumulation
        steps is left out.
        """
        self.pulse.enter(Phase.forward)
        self.deepspeed.set_gradient_accumulation_boundary(last)
        with self.timing.part(Part.data):
            inputs = self._to_tensors(batch)
        with self.timing.part(Part.forward):
            found: LossSum = self.deepspeed(**inputs)
        self.pulse.enter(Phase.backward)
        with self.timing.part(Part.backward):
            self.deepspeed.backward(
                found.loss_sum * (self.split.world_size / num_targets), scale_wrt_gas=False
            )
        return found._replace(loss_sum=found.loss_sum.detach())

    def apply(self, learning_rate: float) -> StepOutcome:
        """Clip, and update the weights and their mean; not on any rank where the gradient is not finite."""
        self.pulse.enter(Phase.optimizer)
        set_learning_rate(self.optimizer, learning_rate)
        with self.timing.part(Part.optimizer):
            outcome = self._step()
            if outcome.applied:
                self.num_updates += 1
                if self.config.ema_decay:
                    add_to_average(self.optimizer, decay=self.config.ema_decay, num_updates=self.num_updates)
        return outcome

    def leave_out(self) -> StepOutcome:
        """Let go of the gradients that were accumulated: no weight, state or mean changes."""
        self.pulse.enter(Phase.optimizer)
        # DeepSpeed has no call for it, and each of its stages keeps gradients elsewhere: it makes a step of nothing
        self.optimizer.step = _nothing  # type: ignore[assignment]
        try:
            outcome = self._step()
        finally:
            del self.optimizer.step
        self.spikes.num_left_out += outcome.applied  # a step that fp16 skips is counted there
        return outcome

    def _step(self) -> StepOutcome:
        return self._step_partitioned() if self.stage > 0 else self._step_replicated()

    def _step_partitioned(self) -> StepOutcome:
        before = self.loss_scale.value if self.loss_scale else 1.0
        self.deepspeed.step()
        applied = self.deepspeed.was_step_applied()
        scaling = self.loss_scale.after(applied=applied, scale_before=before) if self.loss_scale else None
        return StepOutcome(float(self.deepspeed.get_global_grad_norm()), applied, scaling)

    def _step_replicated(self) -> StepOutcome:
        norm = clip_gradients(self.objective.parameters(), max_norm=self.config.max_grad_norm)
        if not torch.isfinite(norm):
            return StepOutcome(float(norm), applied=False)
        self.deepspeed.step()
        return StepOutcome(float(norm), applied=True)

    def gradients(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Of the summed loss of a batch, on this rank alone and kept nowhere; not under ZeRO 3."""
        parameters = [each for each in self.objective.parameters() if each.requires_grad]
        with eager():
            loss_sum = self.objective(**self._to_tensors(batch)).loss_sum
        return torch.autograd.grad(loss_sum, parameters, allow_unused=True, materialize_grads=True)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> LossSum:
        """The sums of a batch's losses, without gradients."""
        self.pulse.enter(Phase.evaluation)
        with eager():
            found: LossSum = self.deepspeed(**self._to_tensors(batch))
        return found

    def sum_over_ranks(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in fp64 on CPU and fp32 on accelerators; the same on each."""
        total = value.double() if self.device.type == "cpu" else value.float()
        if self.split.world_size > 1:
            with self.timing.part(Part.exchange):
                dist.all_reduce(total)
        return total

    def _to_tensors(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {
            name: torch.from_numpy(array).to(self.device, non_blocking=True) for name, array in batch.items()
        }


@contextlib.contextmanager
def little_to_collect() -> Iterator[None]:
    """Within, a search for garbage passes over what was there before: a third of a second each, for all of torch."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _share_weights(wrapped: Any) -> None:
    """Let the optimizer of ZeRO 1 or 2 update the rank's part of the weights in their place.

    DeepSpeed has it update a copy in fp32, which it then writes into the weights: of fp32 weights, the same numbers.
    """
    for own, parts in zip(
        wrapped.single_partition_of_fp32_groups, wrapped.parallel_partitioned_bit16_groups, strict=True
    ):
        own.data = parts[dist.get_rank()].data
    wrapped._link_all_hp_params()  # noqa: SLF001 - views of the copies, which are gone then


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """In place of an optimizer's step."""


def _require_fp16(config: TrainingConfig, accelerator: Any) -> None:
    """Raises ConfigError where the device has no arithmetic in fp16, as most CPUs."""
    if config.precision is Precision.fp16 and not accelerator.is_fp16_supported():
        raise ConfigError(
            f"this {accelerator.device_name()} does not compute in fp16",
            where="precision",
            allowed="bf16 or fp32 on this device",
            do="set precision=bf16, or train on a GPU",
        )
