"""Beam search as in transformers 5, whose source is the reference: which answers are whole, and when a search ends.

Of each prompt num_beams answers are followed. In each step the likeliest continuations of all of them compete; one that
ends, and is among the first num_beams, is whole, and scores log p / n^length_penalty for its n tokens; of those that
do not end the likeliest num_beams go on. The best whole one is the answer.

Letters: B batch, K beams, V vocab.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.generation.reading import Reading
from model.generation.sampling import Repetition
from model.generation.settings import EarlyStopping, Generation
from model.generation.stopping import Ends

IMPOSSIBLE = -1e9
"Log-probability of what shall not be chosen: that of transformers."


class Beam(NamedTuple):
    """An answer so far, or a whole one."""

    score: float
    "Its log-probability; of a whole one, divided by the length penalty."
    ids: list[int]
    parent: int
    "Which beam it went on from."


def search(reading: Reading, settings: Generation, ends: Ends) -> list[list[int]]:
    """The best answer to each prompt."""
    num_beams = settings.num_beams
    searches = [_Search(row, settings, ends) for row in range(len(reading.room))]
    num_candidates = max(2, 1 + len(ends.eos_ids)) * num_beams  # enough that num_beams do not end
    repetition = Repetition.of(settings, reading)
    device = reading.first_ids.device
    logits = reading.read(reading.first_ids)  # [B, V]
    reading.cache.repeat(num_beams)
    logits = logits.repeat_interleave(num_beams, dim=0)  # [BK, V]
    if repetition is not None:
        repetition.repeat(num_beams)
    while True:
        scores = torch.tensor(
            [[beam.score for beam in each.beams] for each in searches], device=device
        )  # [B, K]
        for each, found in zip(searches, _likeliest(logits, scores, repetition, num_candidates), strict=True):
            each.advance(found)
        if all(each.has_ended for each in searches):
            return [each.whole[0].ids for each in searches]
        rows = [row * num_beams + beam.parent for row, each in enumerate(searches) for beam in each.beams]
        next_ids = torch.tensor(
            [beam.ids[-1] for each in searches for beam in each.beams], device=device
        )  # [BK]
        reading.cache.reorder(torch.tensor(rows, device=device))
        if repetition is not None:
            repetition.reorder(torch.tensor(rows, device=device))
            repetition.add(next_ids)
        logits = reading.read(next_ids[:, None])  # [BK, V]


def _likeliest(
    logits: Tensor, scores: Tensor, repetition: Repetition | None, count: int
) -> list[list[tuple[float, int, int]]]:
    """(score, beam, token id) of each prompt's likeliest continuations, the best first."""
    log_probs = F.log_softmax(logits, dim=-1)  # [BK, V]
    if repetition is not None:
        log_probs = repetition(log_probs)
    vocab_size = log_probs.shape[-1]
    totals = (log_probs.view(*scores.shape, vocab_size) + scores[..., None]).flatten(1)  # [B, KV]
    best, places = totals.topk(min(count, totals.shape[1]))
    return [
        [(score, place // vocab_size, place % vocab_size) for score, place in zip(*row, strict=True)]
        for row in zip(best.tolist(), places.tolist(), strict=True)
    ]


@dataclass
class _Search:
    """The search for one prompt's answer."""

    row: int
    settings: Generation
    ends: Ends
    beams: list[Beam] = field(init=False)
    "Those that go on, the likeliest first."
    whole: list[Beam] = field(default_factory=list)
    "At most num_beams, the best first."
    can_improve: bool = True

    def __post_init__(self) -> None:
        first = Beam(0.0, [], 0)
        self.beams = [first] + [first._replace(score=IMPOSSIBLE)] * (self.settings.num_beams - 1)

    @property
    def is_full(self) -> bool:
        return len(self.whole) == self.settings.num_beams

    @property
    def has_ended(self) -> bool:
        return not self.can_improve or (self.settings.early_stopping is EarlyStopping.full and self.is_full)

    def advance(self, candidates: list[tuple[float, int, int]]) -> None:
        """One step; where the search has ended, only beams that other prompts' steps can go along with."""
        num_beams, has_ended = self.settings.num_beams, self.has_ended
        found = [Beam(score, [*self.beams[beam].ids, token], beam) for score, beam, token in candidates]
        are_whole = [not has_ended and self.ends.ended(self.row, beam.ids) for beam in found]
        going = [beam for beam, is_whole in zip(found, are_whole, strict=True) if not is_whole]
        ended = [beam for beam, is_whole in zip(found, are_whole, strict=True) if is_whole]
        in_place = [beam._replace(score=beam.score + IMPOSSIBLE) for beam in ended]
        self.beams = (going + in_place)[:num_beams]
        if has_ended:
            return
        length = len(found[0].ids)
        for beam, is_whole in list(zip(found, are_whole, strict=True))[:num_beams]:
            if is_whole:
                self.whole.append(beam._replace(score=self._scored(beam.score, length)))
        self.whole = sorted(self.whole, key=lambda beam: -beam.score)[:num_beams]
        self.can_improve = bool(going) and self._can_improve(length)

    def _can_improve(self, length: int) -> bool:
        """Whether the likeliest of the beams may come to score above the worst whole answer."""
        if not self.is_full:
            return True
        if self.settings.early_stopping is EarlyStopping.never and self.settings.length_penalty > 0:
            length = self.ends.room[self.row]
        return self._scored(self.beams[0].score, length) > self.whole[-1].score

    def _scored(self, log_probability: float, length: int) -> float:
        return float(log_probability / length**self.settings.length_penalty)
