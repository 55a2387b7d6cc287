"""The training loop: the only one. What is trained differs by objective, data and initial weights."""

import math
import time
from collections.abc import Callable

import torch

from data.batches import TrainingBatches
from pipeline.training.checkpoint import Checkpointer
from pipeline.training.engine import Engine
from pipeline.training.evaluator import Evaluator
from pipeline.training.finite import micro_batch, wrong_gradient, wrong_loss
from pipeline.training.pulse import Phase
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import Recorder, StepRecord
from pipeline.training.rewind import rewind
from pipeline.training.spikes import SpikePolicy


def train(
    engine: Engine,
    batches: TrainingBatches,
    *,
    steps: range,
    learning_rate_at: Callable[[int], float],
    ranks: Ranks,
    recorder: Recorder,
    evaluator: Evaluator,
    checkpointer: Checkpointer,
) -> None:
    """Make the updates of `steps`; recorder, evaluator and checkpointer know when they are due."""
    for step in steps:
        record = train_step(engine, batches, ranks=ranks, step=step, learning_rate=learning_rate_at(step))
        engine.pulse.enter(Phase.record)
        recorder.offer(record)
        if record.spike and record.spike.policy is SpikePolicy.rewind:
            kept = rewind(checkpointer, record.step)
            recorder.say(
                f"back to the checkpoint of step {kept}: steps {kept + 1} to {record.step} are left out"
            )
        evaluator.offer(record.step)
        engine.pulse.enter(Phase.checkpoint)
        checkpointer.offer(record.step)
    recorder.flush()


def train_step(
    engine: Engine, batches: TrainingBatches, *, ranks: Ranks, step: int, learning_rate: float
) -> StepRecord:
    """One update from the global batch of `step`; all ranks together.

    Raises:
        StageFailedError: loss or gradient is not finite; the weights are as they were before the step.
    """
    started_at = time.perf_counter()
    loss = accumulate_step(engine, batches, ranks=ranks, step=step)
    spike = engine.spikes.judge(loss)
    if spike and spike.policy is SpikePolicy.cut_rate:
        learning_rate /= engine.config.spike_rate_divisor
    leaves_out = spike is not None and spike.policy is not SpikePolicy.cut_rate
    outcome = engine.leave_out() if leaves_out else engine.apply(learning_rate)
    if not outcome.applied and outcome.scaling is None:
        raise wrong_gradient(engine, batches, ranks=ranks, step=step, norm=outcome.grad_norm)
    seconds = time.perf_counter() - started_at
    return StepRecord(step + 1, loss, learning_rate, outcome.grad_norm, seconds, outcome.scaling, spike)


def accumulate_step(engine: Engine, batches: TrainingBatches, *, ranks: Ranks, step: int) -> float:
    """Forward and backward of the global batch of `step`; the mean loss of its targets, the same on all ranks.

    Raises:
        StageFailedError: the loss is not finite; on all ranks, with the first rank that had one, and its documents.
    """
    engine.pulse.enter(Phase.data, step + 1)
    split, num_targets = engine.split, batches.num_targets(step)
    losses, loss_sum = [], torch.zeros((), dtype=torch.float32, device=engine.device)
    for micro_step in range(split.gradient_accumulation_steps):
        engine.pulse.enter(Phase.data, step + 1)
        batch = micro_batch(engine, batches, ranks=ranks, step=step, micro_step=micro_step)
        last = micro_step == split.gradient_accumulation_steps - 1
        losses.append(engine.accumulate(batch, num_targets=num_targets, last=last))
        loss_sum += losses[-1]
    engine.pulse.enter(Phase.exchange)
    loss = float(engine.sum_over_ranks(loss_sum)) / num_targets
    if not math.isfinite(loss):
        raise wrong_loss(engine, batches, ranks=ranks, step=step, losses=losses, loss=loss)
    return loss
