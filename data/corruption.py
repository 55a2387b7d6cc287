"""What denoising objectives read: tokens masked at random, spans left out, prefixes drawn. Numpy alone.

Every choice is a pure function of (seed, place), a place being the number of a sequence in the endless order of
training (step * G + its place in the global batch): the same for every split of the work, and another one each time a
sequence comes again (dynamic masking: Liu et al. 2019, section 4.1).

Letters: B sequences, T tokens of each, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.batches import IGNORED, Batch
from data.errors import Problem
from data.hashing import mix64

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

WHICH, KIND, OTHER, NOISE, KEPT, PREFIX = range(1, 7)
"""Streams of random numbers: one for each choice, so that none depends on another."""


@dataclass
class TokenMasking:
    """BERT's masking (Devlin et al. 2018, section 3.1). The defaults are the paper's."""

    fraction: float = 0.15
    "Of the tokens, that are to be predicted; in (0, 1)."
    mask_fraction: float = 0.8
    "Of these, that become the mask token; in [0, 1]."
    random_fraction: float = 0.1
    "Of these, that become a random token; the rest stays as it is; mask_fraction + random_fraction <= 1."
    whole_words: bool = False
    "Whether the tokens of a word are masked together or not at all."

    def num_wanted(self, may_mask: Mask) -> Ids:
        """How many tokens of each sequence are to be predicted, [B], of may_mask [B, T]; as BERT, at least one."""
        num_tokens: Ids = may_mask.sum(axis=1, dtype=np.int64)
        wanted = np.rint(num_tokens * self.fraction).astype(np.int64)
        found: Ids = np.minimum(wanted.clip(1), num_tokens)
        return found

    def problems(self) -> list[Problem]:
        found = _outside_zero_one("fraction", self.fraction)
        if min(self.mask_fraction, self.random_fraction) < 0 or self.mask_fraction + self.random_fraction > 1:
            what = f"{self.mask_fraction} + {self.random_fraction}"
            found.append(Problem("mask_fraction", what, "mask_fraction + random_fraction from 0 to 1"))
        return found


@dataclass
class SpanCorruption:
    """T5's span corruption (Raffel et al. 2019, section 3.1.4). The defaults are the paper's."""

    fraction: float = 0.15
    "Of the tokens, that are left out; in (0, 1)."
    mean_span: float = 3.0
    "Tokens of a span that is left out, on average; >= 1."

    def problems(self) -> list[Problem]:
        found = _outside_zero_one("fraction", self.fraction)
        if self.mean_span < 1:
            found.append(Problem("mean_span", str(self.mean_span), "a number >= 1"))
        return found

    def counts(self, seq_len: int) -> tuple[int, int]:
        """Tokens left out of a sequence of at least two, and their spans: the same for all sequences of a length."""
        num_noise = min(max(round(seq_len * self.fraction), 1), seq_len - 1)
        num_spans = max(round(num_noise / self.mean_span), 1)
        return num_noise, min(num_spans, num_noise, seq_len - num_noise)

    def lengths(self, seq_len: int) -> tuple[int, int]:
        """Tokens of source and target, with a sentinel for each span and an end-of-text id."""
        num_noise, num_spans = self.counts(seq_len)
        return seq_len - num_noise + num_spans + 1, num_noise + num_spans + 1


def mask_tokens(
    tokens: Ids,
    *,
    places: Ids,
    seed: int,
    rules: TokenMasking,
    mask_id: int,
    vocab_size: int,
    may_mask: Mask,
    starts_word: Mask | None = None,
) -> Batch:
    """`input_ids` with masks, and `labels`: what was there, or IGNORED where nothing is to be predicted.

    Args:
        tokens: [B, T].
        places: [B], each sequence's number in the endless order.
        seed: of the choices.
        rules: how many, and what becomes of them.
        mask_id: what stands for a masked token.
        vocab_size: V; random tokens are drawn from [0, V).
        may_mask: [B, T], False for padding and special tokens.
        starts_word: [B, T], True where a word begins; for whole words.
    """
    wanted = rules.num_wanted(may_mask)  # [B]
    ranks = uniform(places, tokens.shape[1], seed=seed, stream=WHICH)
    if rules.whole_words:
        assert starts_word is not None, "whole words need to know where words begin"
        chosen = _whole_words(ranks, wanted, may_mask, starts_word)
    else:
        chosen = _smallest(np.where(may_mask, ranks, np.inf), wanted) & may_mask
    kind = uniform(places, tokens.shape[1], seed=seed, stream=KIND)
    other = uniform(places, tokens.shape[1], seed=seed, stream=OTHER)
    is_random = kind < rules.mask_fraction + rules.random_fraction
    replaced = np.where(is_random, (other * vocab_size).astype(np.int64), tokens)
    replaced = np.where(kind < rules.mask_fraction, mask_id, replaced)
    return {
        "input_ids": np.where(chosen, replaced, tokens),
        "labels": np.where(chosen, tokens, IGNORED),
    }


def corrupt_spans(
    tokens: Ids,
    *,
    places: Ids,
    seed: int,
    rules: SpanCorruption,
    sentinels: Ids,
    eos_id: int,
    start_id: int,
) -> Batch:
    """Sources in which sentinels stand for spans, and targets that say what each sentinel stands for.

    Args:
        tokens: [B, T], T >= 2, without padding.
        places: [B], each sequence's number in the endless order.
        seed: of the choices.
        rules: how much is left out.
        sentinels: ids of their own, in the order of the spans, at least as many as `rules.counts(T)` has spans.
        eos_id: ends source and target.
        start_id: what a decoder begins with.
    """
    seq_len = tokens.shape[1]
    num_noise, num_spans = rules.counts(seq_len)
    assert seq_len > 1
    assert len(sentinels) >= num_spans, f"{num_spans} spans need as many sentinels"
    kept = _parts(seq_len - num_noise, num_spans, places, seed=seed, stream=KEPT)  # [B, spans]
    noise = _parts(num_noise, num_spans, places, seed=seed, stream=NOISE)
    ends = (
        np.stack((kept, noise), axis=2).reshape(len(tokens), -1).cumsum(axis=1)
    )  # [B, 2 spans]: kept, noise, kept, ...
    piece = (np.arange(seq_len) >= ends[:, :, None]).sum(axis=1)  # [B, T]
    is_noise = piece % 2 == 1
    source = _with_sentinels(tokens, ~is_noise, piece // 2, sentinels[:num_spans], eos_id, before=False)
    target = _with_sentinels(tokens, is_noise, piece // 2, sentinels[:num_spans], eos_id, before=True)
    start = np.full((len(tokens), 1), start_id, dtype=np.int64)
    return {
        "input_ids": source,
        "decoder_input_ids": np.concatenate((start, target[:, :-1]), axis=1),
        "labels": target,
    }


def draw_prefixes(places: Ids, seq_len: int, *, seed: int) -> Mask:
    """Bool [B, T], True for a prefix of 1 to T - 1 tokens, each length as likely (Raffel et al. 2019, 3.2.3)."""
    assert seq_len > 1
    length = 1 + (uniform(places, 1, seed=seed, stream=PREFIX) * (seq_len - 1)).astype(np.int64)  # [B, 1]
    return np.arange(seq_len) < length


def uniform(places: Ids, count: int, *, seed: int, stream: int) -> Floats:
    """Numbers in [0, 1), [B, count]: number c of place p is a hash of (seed, stream, p, c)."""
    key = mix64(np.array([seed], dtype=np.int64).astype(np.uint64) + np.uint64(stream << 56))
    rows = mix64(mix64(places.astype(np.uint64)) ^ key)[:, None]
    columns = mix64(np.arange(1, count + 1, dtype=np.uint64))[None, :]
    return (mix64(rows + columns) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _smallest(values: Floats, counts: Ids) -> Mask:
    """The counts[b] smallest of each row."""
    order = values.argsort(axis=1, kind="stable")
    chosen = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(chosen, order, np.arange(values.shape[1]) < counts[:, None], axis=1)
    return chosen


def _whole_words(ranks: Floats, wanted: Ids, may_mask: Mask, starts_word: Mask) -> Mask:
    """Words in random order, as long as they fit into what is wanted; a word ends where none of it may be masked."""
    chosen = np.zeros(ranks.shape, dtype=bool)
    begins = starts_word | ~may_mask
    begins[:, 0] = True
    begins[:, 1:] |= ~may_mask[:, :-1]
    for row, room in enumerate(wanted.tolist()):
        first = np.flatnonzero(begins[row] & may_mask[row])
        word = begins[row].cumsum()
        sizes = np.bincount(word[may_mask[row]], minlength=word[-1] + 1)[word[first]]
        left = room
        for index in ranks[row, first].argsort(kind="stable").tolist():
            if sizes[index] <= left:
                chosen[row, first[index] : first[index] + sizes[index]] = True
                left -= int(sizes[index])
    return chosen


def _parts(total: int, num_parts: int, places: Ids, *, seed: int, stream: int) -> Ids:
    """Lengths [B, num_parts] >= 1 that sum to total, each such division as likely."""
    if num_parts == 1:
        return np.full((len(places), 1), total, dtype=np.int64)
    ranks = uniform(places, total - 1, seed=seed, stream=stream)
    cuts = _smallest(ranks, np.full(len(places), num_parts - 1))  # [B, total - 1]: a cut behind that item
    at = 1 + np.nonzero(cuts)[1].reshape(len(places), num_parts - 1)
    return np.diff(at, axis=1, prepend=0, append=total)


def _with_sentinels(tokens: Ids, keep: Mask, span: Ids, sentinels: Ids, eos_id: int, *, before: bool) -> Ids:
    """The kept tokens of each row with every span's sentinel before its tokens or behind them, and the end."""
    num_rows, num_spans = len(tokens), len(sentinels)
    own = span[keep].reshape(num_rows, -1)  # [B, kept]
    kept = tokens[keep].reshape(num_rows, -1)
    marks = np.tile(np.arange(num_spans), (num_rows, 1))
    # sorted by span, and in it the sentinel first or last
    order = np.concatenate((2 * own + before, 2 * marks + (not before)), axis=1).argsort(
        axis=1, kind="stable"
    )
    joined = np.concatenate((kept, np.tile(sentinels, (num_rows, 1))), axis=1)
    ended = np.full((num_rows, 1), eos_id, dtype=np.int64)
    return np.concatenate((np.take_along_axis(joined, order, axis=1), ended), axis=1)


def _outside_zero_one(name: str, value: float) -> list[Problem]:
    return [] if 0 < value < 1 else [Problem(name, str(value), "a number between 0 and 1")]
