"""From logits to the next tokens: the repetition penalty, and the tokens that a sample may be.

Letters: B batch, V vocab.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.generation.reading import Reading
from model.generation.settings import Generation


class Sampler:
    """Chooses a token for each row; row i draws from a generator of its own, seeded with seed + i."""

    def __init__(self, settings: Generation, *, num_rows: int) -> None:
        self.settings = settings
        self.generators = [torch.Generator().manual_seed(settings.seed + row) for row in range(num_rows)]

    def choose(self, logits: Tensor) -> Tensor:
        """int64 [B] from fp32 logits [B, V]."""
        if self.settings.temperature == 0:
            return logits.argmax(dim=-1)
        below = logits.double() - logits.amax(dim=-1, keepdim=True)  # 0 of the likeliest, however cold it is
        probs, ids = torch.softmax(below / self.settings.temperature, dim=-1).sort(
            dim=-1, descending=True, stable=True
        )
        kept = num_kept(probs, self.settings)  # [B, 1]
        up_to = probs.cumsum(dim=-1)  # [B, V]
        total = up_to.gather(1, kept - 1)  # [B, 1]
        # one uniform number per row, drawn on the CPU so that every device samples alike
        uniform = torch.cat(
            [torch.rand(1, generator=generator, dtype=torch.float64) for generator in self.generators]
        )
        place = torch.searchsorted(up_to, uniform[:, None].to(up_to.device) * total, right=True)  # [B, 1]
        # a product may be rounded up to the whole sum
        return ids.gather(1, torch.minimum(place, kept - 1))[:, 0]


def num_kept(probs: Tensor, settings: Generation) -> Tensor:
    """int64 [B, 1]: how many of the likeliest tokens may be sampled, of probabilities [B, V] that fall.

    At least one. The rules apply one after the other, each to what the one before has left, as in transformers.
    """
    kept = torch.ones_like(probs, dtype=torch.bool)
    if settings.top_k:
        last = min(settings.top_k, probs.shape[-1]) - 1
        kept = probs >= probs[:, last, None]
    if settings.top_p < 1:
        left = probs * kept
        before = left.cumsum(dim=-1) - left
        kept &= before < settings.top_p * left.sum(dim=-1, keepdim=True)
    if settings.min_p > 0:
        kept &= probs >= settings.min_p * probs[:, :1]
    return kept.sum(dim=-1, keepdim=True).clamp(min=1)


class Repetition:
    """Makes tokens that a row has had less likely (Keskar et al. 2019, https://arxiv.org/abs/1909.05858, section 4.1).

    Positive scores are divided by the penalty and negative ones multiplied, as in the code published with it.
    """

    def __init__(self, penalty: float, beginnings: Sequence[Sequence[int]], *, vocab_size: int) -> None:
        self.penalty = penalty
        self.had = torch.zeros(len(beginnings), vocab_size, dtype=torch.bool)  # [B, V]
        for row, ids in enumerate(beginnings):
            self.had[row, list(ids)] = True

    @classmethod
    def of(cls, settings: Generation, reading: Reading) -> "Repetition | None":
        """None where there is no penalty."""
        if settings.repetition_penalty == 1:
            return None
        found = cls(settings.repetition_penalty, reading.beginnings, vocab_size=reading.model.vocab_size)
        found.had = found.had.to(reading.first_ids.device)
        return found

    def __call__(self, scores: Tensor) -> Tensor:
        """Of scores [B, V]."""
        penalised = torch.where(scores < 0, scores * self.penalty, scores / self.penalty)
        return torch.where(self.had, penalised, scores)

    def add(self, next_ids: Tensor) -> None:
        """The tokens [B] that the rows go on with."""
        self.had.scatter_(1, next_ids[:, None], value=True)

    def repeat(self, times: int) -> None:
        """Each row `times` times, one behind the other."""
        self.had = self.had.repeat_interleave(times, dim=0)

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on as rows[i] was."""
        self.had = self.had[rows]
