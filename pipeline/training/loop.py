"""The training loop: the only one. What is trained differs by objective, data and initial weights."""

import math
import time
from collections.abc import Callable, Iterable

from data.batches import TrainingBatches
from pipeline.training.checkpointer import Checkpointer
from pipeline.training.engine import Engine
from pipeline.training.evaluator import Evaluator
from pipeline.training.finite import wrong_gradient, wrong_loss
from pipeline.training.losses import MeanLoss, StepLoss
from pipeline.training.pulse import Phase
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import Recorder, StepRecord
from pipeline.training.rewind import rewind
from pipeline.training.spikes import SpikePolicy
from pipeline.training.timing import Part


def train(
    engine: Engine,
    batches: TrainingBatches,
    *,
    steps: Iterable[int],
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
    recorder.close()


def train_step(
    engine: Engine, batches: TrainingBatches, *, ranks: Ranks, step: int, learning_rate: float
) -> StepRecord:
    """One update from the global batch of `step`; all ranks together.

    Raises:
        StageFailedError: loss or gradient is not finite; the weights are as they were before the step.
    """
    started_at = time.perf_counter()
    loss = accumulate(engine, batches, ranks=ranks, step=step)
    spike = engine.spikes.judge(loss.mean)
    if spike and spike.policy is SpikePolicy.cut_rate:
        learning_rate /= engine.config.spike_rate_divisor
    leaves_out = spike is not None and spike.policy is not SpikePolicy.cut_rate
    outcome = engine.leave_out() if leaves_out else engine.apply(learning_rate)
    if not outcome.applied and outcome.scaling is None:
        raise wrong_gradient(engine, batches, ranks=ranks, step=step, norm=outcome.grad_norm)
    return StepRecord(
        step=step + 1,
        loss=loss.mean,
        learning_rate=learning_rate,
        grad_norm=outcome.grad_norm,
        seconds=time.perf_counter() - started_at,
        scaling=outcome.scaling,
        loss_by_source=loss.by_source,
        spike=spike,
    )


def accumulate(engine: Engine, batches: TrainingBatches, *, ranks: Ranks, step: int) -> MeanLoss:
    """Forward and backward of the global batch, this rank's share of it in micro batches; its loss.

    Raises:
        StageFailedError: the loss is not finite; on all ranks, with the first rank that had one, and its documents.
    """
    split = engine.split
    engine.pulse.enter(Phase.data, step + 1)
    with engine.timing.part(Part.data):
        loss = StepLoss(engine, batches, step)
    for micro_step in range(split.gradient_accumulation_steps):
        place = {
            "rank": ranks.rank,
            "world_size": ranks.world_size,
            "micro_step": micro_step,
            "micro_batch_size": split.micro_batch_size,
        }
        engine.pulse.enter(Phase.data, step + 1)
        with engine.timing.part(Part.data):
            batch, sources = batches.batch(step, **place), batches.sources(step, **place)
        last = micro_step == split.gradient_accumulation_steps - 1
        loss.add(engine.accumulate(batch, num_targets=loss.num_targets, last=last), sources)
    engine.pulse.enter(Phase.exchange)
    found = loss.mean()
    if not math.isfinite(found.mean):
        raise wrong_loss(engine, batches, ranks=ranks, step=step, losses=loss.of_micro_steps, loss=found.mean)
    return found
