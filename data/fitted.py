"""Sequences of whole documents: as many as fit, none cut that need not be, the rest padding.

A document of more than T targets is cut into pieces of T. Pieces are fitted into sequences of T by best-fit
decreasing, which cuts the truncations of concatenation to those that length forces (Ding et al. 2024, "Fewer
Truncations Improve Language Modeling"). Pieces of one length are placed together, as in histogram packing (Krell et
al. 2021, "Efficient Sequence Packing without Cross-contamination"), so that time grows with T and not with the corpus.
Memory does not grow with the corpus: pieces are fitted WINDOW_PIECES and some at a time, and the table of where they
lie, 12 bytes for each piece and as much for each sequence, is a mapped file below TMPDIR.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import numpy as np

from data.batches import IGNORED, Batch, SequencePool, Span
from data.errors import DataError
from data.packed import Boundaries
from data.packing import Ints
from data.shards import TokenShards
from data.spilled import SpilledArray

WINDOW_PIECES = 1 << 17
"""So many are fitted among each other that next to no room is left; a window ends with a record batch."""


class Fit(Enum):
    """How many pieces share a sequence."""

    best = "best"  # as many as best-fit decreasing puts there
    one = "one"


class FittedSequences(SequencePool):
    """Sequences of pieces, each beginning with its document's own tokens: a document's first token is no target.

    Raises `DataError` where no document has a target.
    """

    def __init__(
        self,
        shards: TokenShards,
        *,
        seq_len: int,
        fit: Fit = Fit.best,
        boundaries: Boundaries = Boundaries.ignore,
    ) -> None:
        self.shards, self.seq_len, self.boundaries = shards, seq_len, boundaries
        begins, lengths = SpilledArray(np.int64), SpilledArray(np.int32)
        offsets, targets = SpilledArray(np.int64), SpilledArray(np.int32)  # at most seq_len each
        offsets.append([0])
        for window in _windows(shards, seq_len):
            laid = _laid_out(*window, seq_len, fit)
            offsets.append(len(begins) + laid.ends)
            begins.append(laid.begins)
            lengths.append(laid.lengths)
            targets.append(laid.targets)
        if not len(begins):
            raise DataError(
                f"none of {shards.num_rows} documents has a token to learn",
                where=str(shards.paths[0].parent),
                allowed="documents of more than their end-of-text id",
                do="add text",
            )
        self._begins, self._lengths = begins.mapped(), lengths.mapped()
        self._offsets, self._targets = offsets.mapped(), targets.mapped()

    @property
    def num_sequences(self) -> int:
        return len(self._offsets) - 1

    @property
    def fill(self) -> float:
        """Fraction of all positions that have a target."""
        return float(self._targets.sum() / (self.num_sequences * self.seq_len))

    def batch(self, sequences: Ints) -> Batch:
        shape = len(sequences), self.seq_len
        batch = {
            "input_ids": np.full(shape, self.shards.format.eos_id, dtype=np.int64),
            "labels": np.full(shape, IGNORED, dtype=np.int64),
        }
        if self.boundaries is Boundaries.mask:
            batch |= {"document_ids": np.empty(shape, np.int64), "position_ids": np.empty(shape, np.int64)}
        for place, sequence in enumerate(sequences.tolist()):
            self._fill_row(batch, place, self._pieces_of(sequence))
        return batch

    def num_targets(self, sequences: Ints) -> int:
        return int(self._targets[sequences].sum())

    def spans(self, sequence: int) -> list[Span]:
        return [Span(self.shards.row_of(begin), begin, end) for begin, end in self._pieces_of(sequence)]

    def _pieces_of(self, sequence: int) -> list[tuple[int, int]]:
        """Their tokens, inputs and targets: [begin, end) of the concatenation."""
        pieces = slice(*self._offsets[sequence : sequence + 2].tolist())
        begins, lengths = self._begins[pieces].tolist(), self._lengths[pieces].tolist()
        return [(begin, begin + length + 1) for begin, length in zip(begins, lengths, strict=True)]

    def _fill_row(self, batch: Batch, place: int, pieces: list[tuple[int, int]]) -> None:
        first = 0
        for document, (begin, end) in enumerate(pieces):
            tokens = self.shards.tokens.read(begin, end)
            here = slice(first, first + len(tokens) - 1)
            batch["input_ids"][place, here], batch["labels"][place, here] = tokens[:-1], tokens[1:]
            self._mark(batch, place, here, document)
            first = here.stop
        self._mark(batch, place, slice(first, self.seq_len), len(pieces))  # padding is a document of its own

    def _mark(self, batch: Batch, place: int, here: slice, document: int) -> None:
        if self.boundaries is Boundaries.mask:
            batch["document_ids"][place, here] = document
            batch["position_ids"][place, here] = np.arange(here.stop - here.start)


class _Layout(NamedTuple):
    """The pieces of a window, sequence after sequence, each in the order of the rows."""

    begins: Ints
    "First tokens, [num_pieces]."
    lengths: Ints
    "Targets, [num_pieces]."
    ends: Ints
    "The number of pieces up to each sequence's last, [num_sequences]."
    targets: Ints
    "Of each sequence, [num_sequences]."


def _laid_out(begins: Ints, lengths: Ints, seq_len: int, fit: Fit) -> _Layout:
    bins = best_fit(lengths, seq_len) if fit is Fit.best else np.arange(len(begins))
    order = np.lexsort((begins, bins))
    begins, lengths = begins[order], lengths[order]
    ends = np.cumsum(np.bincount(bins))
    return _Layout(begins, lengths, ends, np.add.reduceat(lengths, np.append(0, ends[:-1])))


def _windows(shards: TokenShards, seq_len: int) -> Iterator[tuple[Ints, Ints]]:
    """`_pieces` of so many record batches at a time as have WINDOW_PIECES, none of them empty."""
    held: list[tuple[Ints, Ints]] = []
    for row_starts in shards.starts_by_batch():
        held.append(_pieces(row_starts, seq_len))
        if sum(len(begins) for begins, _ in held) >= WINDOW_PIECES:
            yield _joined(held)
            held = []
    begins, lengths = _joined(held)
    if len(begins):
        yield begins, lengths


def _joined(parts: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    none = np.empty(0, np.int64)
    return np.concatenate([none, *(each for each, _ in parts)]), np.concatenate(
        [none, *(each for _, each in parts)]
    )


def _pieces(row_starts: Ints, seq_len: int) -> tuple[Ints, Ints]:
    """First token and number of targets of each piece, both [num_pieces], in the order of the rows."""
    targets = np.diff(row_starts) - 1
    counts = -(-targets // seq_len)
    rows = np.repeat(np.arange(len(targets)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return row_starts[rows] + number * seq_len, np.minimum(seq_len, targets[rows] - number * seq_len)


def best_fit(lengths: Ints, capacity: int) -> Ints:
    """The bin of each piece, [num_pieces], by best-fit decreasing; bins are numbered as they are opened.

    Args:
        lengths: [num_pieces], each in [1, capacity].
        capacity: of a bin.
    """
    bins = np.empty(len(lengths), dtype=np.int64)
    by_length = np.argsort(-lengths, kind="stable")
    sizes, firsts = np.unique(-lengths[by_length], return_index=True)
    room = _Room()
    num_bins = 0
    for size, group in zip((-sizes).tolist(), np.split(by_length, firsts[1:]), strict=True):
        pieces = group
        while len(pieces):
            free = room.least(size) or capacity
            each = free // size  # the first bin stays the best fit until it is full
            wanted = -(-len(pieces) // each)
            taken = room.take(free, wanted)
            if taken is None:
                taken = np.arange(num_bins, num_bins + wanted)
                num_bins += wanted
            now = pieces[: len(taken) * each]
            bins[now] = taken[np.arange(len(now)) // each]
            num_full, rest = divmod(len(now), each)
            room.put(free - each * size, taken[:num_full])
            room.put(free - rest * size, taken[num_full:])
            pieces = pieces[len(now) :]
    return bins


class _Room:
    """Open bins by the room that is left in them."""

    def __init__(self) -> None:
        self._bins: dict[int, list[Ints]] = {}
        self._sizes: list[int] = []

    def least(self, size: int) -> int | None:
        """The least room of `size` or more that a bin has."""
        place = bisect_left(self._sizes, size)
        return self._sizes[place] if place < len(self._sizes) else None

    def take(self, free: int, wanted: int) -> Ints | None:
        """Up to `wanted` bins with just so much room; None where there is none."""
        if free not in self._bins:
            return None
        bins = self._bins[free].pop()
        if len(bins) > wanted:
            self._bins[free].append(bins[wanted:])
        if not self._bins[free]:
            del self._bins[free]
            self._sizes.remove(free)
        return bins[:wanted]

    def put(self, free: int, bins: Ints) -> None:
        if not free or not len(bins):
            return
        if free not in self._bins:
            self._bins[free] = []
            insort(self._sizes, free)
        self._bins[free].append(bins)
