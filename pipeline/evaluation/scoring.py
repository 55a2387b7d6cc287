"""The loss of a model on held-out tokens: each target once, weighted by tokens, no average of averages."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from data.batches import Corruption
from data.heldout import EvalExamples, EvalSequences, HeldOut
from data.shards import TokenShards

FAST_BATCH_TOKENS = 8192
"Tokens in a forward pass beyond which a larger one is no faster."
LARGEST_EXPONENT = 700.0
"exp(710) is no longer a float."


@dataclass(frozen=True)
class Score:
    """What the held-out tokens cost."""

    loss_sum: float
    "Nats."
    num_targets: int
    num_bytes: int
    "UTF-8 bytes of the text that the targets spell; 0 where they do not spell it once."
    num_right: int | None = None
    "Masked tokens, or classes, that the model finds likeliest; None where there are none."
    moments: tuple[float, ...] | None = None
    "Of numbers that were predicted; see `model.objectives.texts.moments_of`."

    def metrics(self) -> dict[str, float]:
        """`eval/loss` in nats per target, its perplexity, and bits per byte of text.

        Of masked tokens the loss alone, and the fraction of them that is found: each is predicted given all others, so
        that their losses add up to no likelihood of the text, and have no perplexity. Of numbers the mean squared
        error, and their correlation with the targets (Pearson's), 0 where either is constant.
        """
        loss = self.loss_sum / self.num_targets
        if self.moments is not None:
            return {"eval/loss": loss, "eval/pearson": correlation(*self.moments)}
        if self.num_right is not None:
            return {"eval/loss": loss, "eval/accuracy": self.num_right / self.num_targets}
        found = {"eval/loss": loss, "eval/perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
        if self.num_bytes:
            found["eval/bits_per_byte"] = self.loss_sum / math.log(2) / self.num_bytes
        return found


def score(
    objective: nn.Module,
    held_out: HeldOut,
    *,
    seq_len: int,
    on_progress: Callable[[int, int], None],
    corruption: Corruption | None = None,
) -> Score:
    """Score held-out sequences of about `seq_len` tokens, as they are or corrupted; a place is a sequence's number.

    Args:
        objective: around a model on its device.
        held_out: with the tokens of the model's tokenizer.
        seq_len: tokens of a sequence.
        on_progress: told (done, total) batches.
        corruption: what becomes of the sequences; None: nothing.
    """
    size = max(1, FAST_BATCH_TOKENS // seq_len)
    count = held_out.num_batches(world_size=1, micro_batch_size=size)
    device = next(objective.eval().parameters()).device
    loss_sum, num_targets, num_right = 0.0, 0, None
    moments: list[float] | None = None
    with torch.inference_mode():
        for index in range(count):
            batch = held_out.batch(index, rank=0, world_size=1, micro_batch_size=size)
            if corruption is not None:
                places = index * size + np.arange(len(batch["input_ids"]), dtype=np.int64)
                batch = corruption.corrupt(batch, places)
            found = objective(**{name: torch.from_numpy(array).to(device) for name, array in batch.items()})
            loss_sum += float(found.loss_sum)
            num_targets += int(found.num_targets)
            if found.num_right is not None:
                num_right = (num_right or 0) + int(found.num_right)
            if found.moments is not None:
                before = moments or [0.0] * len(found.moments)
                moments = [a + b for a, b in zip(before, found.moments.tolist(), strict=True)]
            on_progress(index + 1, count)
    num_bytes = held_out.num_bytes if corruption is None or corruption.keeps_targets else 0
    return Score(loss_sum, num_targets, num_bytes, num_right, tuple(moments) if moments else None)


def correlation(n: float, x: float, y: float, xx: float, yy: float, xy: float) -> float:
    """Pearson's, of the sums of n pairs."""
    variances = (n * xx - x * x) * (n * yy - y * y)
    return (n * xy - x * y) / math.sqrt(variances) if variances > 0 else 0.0


def held_out_text(shards: TokenShards, *, seq_len: int) -> HeldOut:
    """Documents in sequences of `seq_len`, or the responses of examples."""
    if shards.format.has_loss_mask:
        return EvalExamples(shards, seq_len=seq_len, pad_id=shards.format.eos_id)
    return EvalSequences(shards, seq_len=seq_len)
