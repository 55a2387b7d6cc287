"""How much of a text is sequences of words that come again: Gopher's table A1 (Rae et al. 2021)."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray

from data.filters.words import Pieces

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
SHORT_PIECES = 350
"Up to so many pieces Python's sets are faster than numpy, whose every call costs as much as some twenty pieces do."

Places = NDArray[np.int64]


@dataclass(slots=True)
class Level:
    """The sequences of one size that occur twice or more."""

    places: Sequence[int] = ()
    "Where they begin, ascending."
    sequences: Sequence[Hashable] = ()
    "At each place which one."
    top_place: int = 0
    "Of the most frequent, the first; where none comes again, the first of all."
    top_times: int = 1


NOTHING = Level()


class Repetition:
    """Characters in repeated sequences of words. Sizes are asked for in ascending order.

    A sequence of n + 1 words comes again only where its first n words do, so each size looks only at the places that
    the size before left: in most texts few after three words.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._stretch = 2 if pieces.is_mostly_unspaced() else 1
        self._found: dict[int, int] = {}
        self._levels, self._reached, self._is_over = levels_of(pieces), 1, False

    def reaches(self, size: int) -> bool:
        """Whether `characters` must be asked: false where it is known that no sequence of this size comes again."""
        return size in self._found or not self._is_over

    def characters(self, size: int) -> int:
        """Of `TOP_SIZES` the characters in the most frequent sequence, with a space between words; of
        `DUPLICATE_SIZES` those in sequences that repeat an earlier one, from left to right, none counted twice.
        """
        while size not in self._found:
            if self._is_over:  # no sequence that is as long as this comes again
                return self._characters_at(0, size * self._stretch) if size in TOP_SIZES else 0
            self._reached += 1
            level = next(self._levels, NOTHING)
            self._is_over = level is NOTHING
            of_size, rest = divmod(self._reached, self._stretch)
            if not rest:
                measure = self._top if of_size in TOP_SIZES else self._duplicates
                self._found[of_size] = measure(self._reached, level)
        return self._found[size]

    def _top(self, size: int, level: Level) -> int:
        return level.top_times * self._characters_at(level.top_place, size)

    def _characters_at(self, place: int, size: int) -> int:
        """Of one sequence, with spaces; 0 where the text has not so many words."""
        if len(self._pieces) < size:
            return 0
        spaces = (size - 1) if self._stretch == 1 else 0
        return sum(map(len, self._pieces[place : place + size])) + spaces

    def _duplicates(self, size: int, level: Level) -> int:
        num_characters, free_from = 0, 0
        seen: set[Hashable] = set()
        for place, sequence in zip(level.places, level.sequences, strict=True):
            if place < free_from:
                continue
            if sequence in seen:
                num_characters += sum(map(len, self._pieces[place : place + size]))
                free_from = place + size
            else:
                seen.add(sequence)
        return num_characters


def levels_of(pieces: Sequence[str]) -> Iterator[Level]:
    """For each size from 2 on, what comes again; ends before the first of which nothing does."""
    if len(pieces) > SHORT_PIECES:
        return levels_of_long(pieces)
    pairs = list(pairwise(pieces))
    return iter(()) if len(set(pairs)) == len(pairs) else levels_of_short(pieces, pairs)


def levels_of_short(pieces: Sequence[str], sequences: Sequence[tuple[str, ...]]) -> Iterator[Level]:
    """By counting.

    Args:
        pieces: of the text.
        sequences: of two, at every place; some come again.
    """
    places: Sequence[int] = range(len(sequences))
    for size in count(3):
        counts = Counter(sequences)
        top = max(counts, key=counts.__getitem__)  # the first of those that are equally frequent
        kept = [at for at, each in enumerate(sequences) if counts[each] > 1]
        places, sequences = [places[at] for at in kept], [sequences[at] for at in kept]
        yield Level(places, sequences, places[sequences.index(top)], counts[top])
        places = [place for place in places if place <= len(pieces) - size]
        sequences = [tuple(pieces[place : place + size]) for place in places]
        if len(set(sequences)) == len(sequences):
            return


def levels_of_long(pieces: Sequence[str]) -> Iterator[Level]:
    """By sorting."""
    known = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    every = np.fromiter(map(known.__getitem__, pieces), np.int64, len(pieces))
    places, groups = np.arange(len(every)), every
    for size in count(2):
        fits = places <= len(every) - size
        places, groups = places[fits], groups[fits]
        places, groups, counts = _repeated(groups * len(known) + every[places + size - 1], places)
        if not len(places):
            return
        most = int(counts.max())
        top_place = int(places[np.argmax(counts[groups] == most)])
        yield Level(places.tolist(), groups.tolist(), top_place, most)


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
