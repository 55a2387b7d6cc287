"""What is told of a step whose loss or gradient is not finite: the first rank and micro batch that had it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from data.batches import Batch, TrainingBatches
from pipeline.errors import StageFailedError
from pipeline.training.config import WEIGHTS_STAGE
from pipeline.training.engine import Engine
from pipeline.training.ranks import Ranks

NAMED_AT_MOST = 8


def micro_batch(
    engine: Engine, batches: TrainingBatches, *, ranks: Ranks, step: int, micro_step: int
) -> Batch:
    """This rank's share of a micro-step."""
    return batches.batch(
        step,
        rank=ranks.rank,
        world_size=ranks.world_size,
        micro_step=micro_step,
        micro_batch_size=engine.split.micro_batch_size,
    )


def wrong_loss(
    engine: Engine,
    batches: TrainingBatches,
    *,
    ranks: Ranks,
    step: int,
    losses: Sequence[Tensor],
    loss: float,
) -> StageFailedError:
    """The error for a loss of the global batch that is not finite; `losses` are those of this rank's micro batches."""
    ours = [micro_step for micro_step, each in enumerate(losses) if not math.isfinite(each)]
    return not_finite("loss", loss, engine, batches, step=step, micro_steps=ranks.gather(ours))


def wrong_gradient(
    engine: Engine, batches: TrainingBatches, *, ranks: Ranks, step: int, norm: float
) -> StageFailedError:
    """The error for a gradient that is not finite, once it is gone: each rank computes its own once more, alone.

    Under ZeRO 3 that cannot be done alone, and no rank is named.
    """
    ours = []
    for micro_step in range(engine.split.gradient_accumulation_steps if engine.stage < WEIGHTS_STAGE else 0):
        batch = micro_batch(engine, batches, ranks=ranks, step=step, micro_step=micro_step)
        if not all(torch.isfinite(each).all() for each in engine.gradients(batch)):
            ours.append(micro_step)
    return not_finite("gradient norm", norm, engine, batches, step=step, micro_steps=ranks.gather(ours))


def not_finite(
    what: str,
    value: float,
    engine: Engine,
    batches: TrainingBatches,
    *,
    step: int,
    micro_steps: Sequence[Sequence[int]],
) -> StageFailedError:
    """The error with the step and its documents: those of the first of `micro_steps` (of each rank) that was wrong."""
    split, places, first = engine.split, range(batches.per_step), ""
    rank = next((rank for rank, wrong in enumerate(micro_steps) if wrong), None)
    if rank is not None:
        micro_step = micro_steps[rank][0]
        begin = (micro_step * split.world_size + rank) * split.micro_batch_size
        places = range(begin, begin + split.micro_batch_size)
        first = (
            f"first on rank {rank}, in micro step {micro_step + 1} of {split.gradient_accumulation_steps}: "
        )
    ids = batches.sequence_ids(step)[places.start : places.stop].tolist()
    shown = ", ".join(map(str, ids[:NAMED_AT_MOST])) + (", …" if len(ids) > NAMED_AT_MOST else "")
    documents = ", ".join(batches.document_names(step, places=places, limit=NAMED_AT_MOST))
    return StageFailedError(
        f"the {what} is {value} at step {step + 1}: stopped before the update",
        where=f"{first}sequences {shown}; documents {documents}",
        allowed="a finite number",
        do="lower learning_rate, lengthen warmup_steps, or look at these documents with `headrace inspect`",
    )
