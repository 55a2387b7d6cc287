"""How often words stand near each other (Pennington, Socher and Manning 2014, D14-1162, sections 3 and 4.2).

Two words d apart in a document, d at most the window, count 1 / d, on either side. Counts are whole numbers of units of
1 / lcm(1 .. window): their sum is exact, so that it is the same in every order, whatever the shards and the workers.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.vectors.corpus import Stretch

MAX_WINDOW = 20
"Words; of a wider window's units 2^63 are too few."
HELD_PAIRS = 1 << 23
"Different pairs in memory before they are laid aside."
PART_PAIRS = 1 << 23
"Different pairs in a part, about, that is in memory at once."

Keys = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Different pairs of words, the more frequent word first, in their order."""

    keys: Keys
    "[num_pairs]: row of the first word x num_words + row of the second, which is not smaller."
    units: NDArray[np.int64]
    "[num_pairs]: how often, of 1 / lcm(1 .. window)."

    @classmethod
    def summed(cls, several: Iterable["Pairs"]) -> "Pairs":
        """All together, each pair once."""
        keys, units = (
            np.concatenate(each) for each in zip(*((p.keys, p.units) for p in several), strict=True)
        )
        order = np.argsort(keys, kind="stable")
        keys, units = keys[order], units[order]
        firsts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else keys
        return cls(keys[firsts], np.add.reduceat(units, firsts) if len(keys) else units)

    @classmethod
    def none(cls) -> "Pairs":
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def between(self, begin: int, end: int, *, num_words: int) -> "Pairs":
        """Those whose first word is in the rows [begin, end)."""
        low, high = np.searchsorted(self.keys, (begin * num_words, end * num_words))
        return Pairs(self.keys[low:high], self.units[low:high])


def unit_of(window: int) -> int:
    """Units that make 1."""
    return math.lcm(*range(1, window + 1))


def count_pairs(found: Iterable[Stretch], *, num_words: int, window: int) -> Iterator[Pairs]:
    """Of all stretches, in runs of no more pairs than memory holds; a pair may be in several runs."""
    held = Pairs.none()
    for stretch in found:
        held = Pairs.summed([held, *_pairs_of(stretch, num_words, window)])
        if len(held.keys) > HELD_PAIRS:
            yield held
            held = Pairs.none()
    if len(held.keys):
        yield held


def parts_of(counts: NDArray[np.int64], *, window: int, pairs: int = PART_PAIRS) -> list[tuple[int, int]]:
    """Ranges of rows whose pairs, as the first word, can be about `pairs` at most; counts [num_words] descend."""
    num_words = len(counts)
    most = np.minimum(2 * window * counts, num_words - np.arange(num_words))
    part = np.cumsum(most) // pairs
    begins = np.flatnonzero(np.concatenate(([True], part[1:] != part[:-1]))).tolist()
    return [*zip(begins, [*begins[1:], num_words], strict=True)]


def _pairs_of(stretch: Stretch, num_words: int, window: int) -> Iterator[Pairs]:
    """One `Pairs` for each distance."""
    rows, whole = stretch.rows.astype(np.int64), unit_of(window)
    document = np.zeros(len(rows) + 1, np.int64)
    np.add.at(document, stretch.starts, 1)  # empty documents begin where the next one does
    document = np.cumsum(document[:-1])
    for distance in range(1, min(window, len(rows) - 1) + 1):
        left, right = rows[:-distance], rows[distance:]
        is_one_text = document[:-distance] == document[distance:]
        left, right = left[is_one_text], right[is_one_text]
        keys, times = np.unique(
            np.minimum(left, right) * num_words + np.maximum(left, right), return_counts=True
        )
        is_itself = keys // num_words == keys % num_words  # a word near itself is near on both sides
        yield Pairs(keys, times * (whole // distance) * (1 + is_itself))
