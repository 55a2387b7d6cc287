"""How much of a text is sequences of words that come again: Gopher's table A1 (Rae et al. 2021)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data.filters.words import Pieces

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)

Places = NDArray[np.int64]


class Repetition:
    """Characters in repeated sequences of words. Sizes are asked for in ascending order.

    A sequence of n + 1 words comes again only where its first n words do, so each size looks only at the places that
    the size before left: in most texts few after three words.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._ends = np.concatenate([[0], np.cumsum(pieces.lengths)])
        self._stretch = 2 if 2 * int(pieces.is_unspaced.sum()) > len(pieces.numbers) else 1
        self._found: dict[int, int] = {}
        self._levels = self._repeats()
        self._is_over = False

    def characters(self, size: int) -> int:
        """Of `TOP_SIZES` the characters in the most frequent sequence, with a space between words; of
        `DUPLICATE_SIZES` those in sequences that repeat an earlier one, from left to right, none counted twice.
        """
        while size not in self._found:
            if self._is_over:  # no sequence that is as long as this comes again
                return self._characters_at(0, size * self._stretch) if size in TOP_SIZES else 0
            reached, places, groups, counts = next(self._levels)
            self._is_over = not len(places)
            of_size, rest = divmod(reached, self._stretch)
            if not rest:
                measure = self._top if of_size in TOP_SIZES else self._duplicates
                self._found[of_size] = measure(reached, places, groups, counts)
        return self._found[size]

    def _repeats(self) -> Iterator[tuple[int, Places, Places, Places]]:
        """For each size from 2 on: the places of sequences that occur twice or more, ascending; the sequence at each,
        by number; and how often each number occurs.
        """
        numbers = self._pieces.numbers
        size, base = 1, int(numbers.max(initial=0)) + 1
        places, groups, counts = np.arange(len(numbers)), numbers, numbers[:0]
        while True:
            size += 1
            fits = places <= len(numbers) - size
            places, groups = places[fits], groups[fits]
            keys = groups * base + numbers[places + size - 1]
            places, groups, counts = _repeated(keys, places)
            yield size, places, groups, counts

    def _top(self, size: int, places: Places, groups: Places, counts: Places) -> int:
        """The first of the most frequent; where none comes again, the first of all."""
        most = int(counts.max(initial=1))
        first = int(places[np.argmax(counts[groups] == most)]) if len(places) else 0
        return most * self._characters_at(first, size)

    def _characters_at(self, place: int, size: int) -> int:
        """Of one sequence, with spaces; 0 where the text has not so many words."""
        if len(self._pieces.numbers) < size:
            return 0
        spaces = (size - 1) if self._stretch == 1 else 0
        return int(self._ends[place + size] - self._ends[place]) + spaces

    def _duplicates(self, size: int, places: Places, groups: Places, counts: Places) -> int:
        del counts
        num_characters, free_from = 0, 0
        seen: set[int] = set()
        for place, group in zip(places.tolist(), groups.tolist(), strict=True):
            if place < free_from:
                continue
            if group in seen:
                num_characters += int(self._ends[place + size] - self._ends[place])
                free_from = place + size
            else:
                seen.add(group)
        return num_characters


def _repeated(keys: Places, places: Places) -> tuple[Places, Places, Places]:
    """The places whose key occurs twice or more, ascending; the number of each one's key; how often each occurs."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_first = np.ones(len(keys) + 1, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:-1])
    starts = np.flatnonzero(is_first)
    counts = starts[1:] - starts[:-1]
    is_repeated = counts > 1
    counts_repeated = counts[is_repeated]
    found = order[np.repeat(is_repeated, counts)]
    groups = np.repeat(np.arange(len(counts_repeated)), counts_repeated)
    back = np.argsort(found, kind="stable")
    return places[found[back]], groups[back], counts_repeated
