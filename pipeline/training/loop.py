"""The training loop: the only one. What is trained differs by objective, data and initial weights."""

import math
import time
from collections.abc import Callable, Iterable

from data.batches import TrainingBatches
from pipeline.errors import StageFailedError
from pipeline.training.checkpointer import Checkpointer
from pipeline.training.engine import Engine
from pipeline.training.evaluator import Evaluator
from pipeline.training.losses import MeanLoss, StepLoss
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import Recorder, StepRecord
from pipeline.training.timing import Part

NAMED_AT_MOST = 8


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
        recorder.offer(record)
        evaluator.offer(record.step)
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
    if not math.isfinite(loss.mean):
        raise not_finite("loss", loss.mean, batches, step)
    outcome = engine.apply(learning_rate)
    if not outcome.applied and outcome.scaling is None:
        raise not_finite("gradient norm", outcome.grad_norm, batches, step)
    seconds = time.perf_counter() - started_at
    return StepRecord(
        step + 1, loss.mean, learning_rate, outcome.grad_norm, seconds, outcome.scaling, loss.by_source
    )


def accumulate(engine: Engine, batches: TrainingBatches, *, ranks: Ranks, step: int) -> MeanLoss:
    """Forward and backward of the global batch, this rank's share of it in micro batches; its loss."""
    split = engine.split
    with engine.timing.part(Part.data):
        loss = StepLoss(engine, batches, step)
    for micro_step in range(split.gradient_accumulation_steps):
        place = {
            "rank": ranks.rank,
            "world_size": ranks.world_size,
            "micro_step": micro_step,
            "micro_batch_size": split.micro_batch_size,
        }
        with engine.timing.part(Part.data):
            batch, sources = batches.batch(step, **place), batches.sources(step, **place)
        last = micro_step == split.gradient_accumulation_steps - 1
        loss.add(engine.accumulate(batch, num_targets=loss.num_targets, last=last), sources)
    return loss.mean()


def not_finite(what: str, value: float, batches: TrainingBatches, step: int) -> StageFailedError:
    """The error that names the step and what was in its batch."""
    ids = batches.sequence_ids(step).tolist()
    shown = ", ".join(map(str, ids[:NAMED_AT_MOST])) + (", …" if len(ids) > NAMED_AT_MOST else "")
    documents = ", ".join(batches.document_names(step, limit=NAMED_AT_MOST))
    return StageFailedError(
        f"the {what} is {value} at step {step + 1}: stopped before the update",
        where=f"sequences {shown}; documents {documents}",
        allowed="a finite number",
        do="lower learning_rate, lengthen warmup_steps, or look at these documents with `headrace inspect`",
    )
