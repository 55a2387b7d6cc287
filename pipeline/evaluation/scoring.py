"""The loss of a model on held-out tokens: each target once, weighted by tokens, no average of averages."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from data.heldout import EvalExamples, EvalSequences, HeldOut
from data.shards import TokenShards
from model.decoder import Decoder
from model.objectives import CausalLM

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
    "UTF-8 bytes of the text that the targets spell."

    def metrics(self) -> dict[str, float]:
        """`eval/loss` in nats per target, its perplexity, and bits per byte of text."""
        loss = self.loss_sum / self.num_targets
        found = {"eval/loss": loss, "eval/perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
        if self.num_bytes:
            found["eval/bits_per_byte"] = self.loss_sum / math.log(2) / self.num_bytes
        return found


def score(
    model: Decoder, shards: TokenShards, *, seq_len: int, on_progress: Callable[[int, int], None]
) -> Score:
    """Score documents in sequences of `seq_len`, or the responses of examples.

    Args:
        model: in evaluation mode, on its device.
        shards: held-out tokens of the model's tokenizer.
        seq_len: tokens of a sequence, at most the model's.
        on_progress: told (done, total) batches.
    """
    held_out = _held_out(shards, seq_len)
    size = max(1, FAST_BATCH_TOKENS // seq_len)
    count = held_out.num_batches(world_size=1, micro_batch_size=size)
    objective, device = CausalLM(model).eval(), next(model.parameters()).device
    loss_sum, num_targets = 0.0, 0
    with torch.inference_mode():
        for index in range(count):
            batch = held_out.batch(index, rank=0, world_size=1, micro_batch_size=size)
            found = objective(**{name: torch.from_numpy(array).to(device) for name, array in batch.items()})
            loss_sum += float(found.loss_sum)
            num_targets += int(found.num_targets)
            on_progress(index + 1, count)
    return Score(loss_sum, num_targets, held_out.num_bytes)


def _held_out(shards: TokenShards, seq_len: int) -> HeldOut:
    if shards.format.has_loss_mask:
        return EvalExamples(shards, seq_len=seq_len, pad_id=shards.format.eos_id)
    return EvalSequences(shards, seq_len=seq_len)
