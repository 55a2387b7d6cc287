"""How good word vectors are: analogies answered, and similarities ranked as people rank them.

A question or a pair with a word that has no vector is left out and counted.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.vectors.nearest import Nearest

ANALOGY_WORDS, PAIR_FIELDS = 4, 3
FEWEST_PAIRS = 2
NO_SECTION = "all"


class Analogy(NamedTuple):
    """The first word is to the second as the third to the fourth."""

    section: str
    words: tuple[str, str, str, str]


class Pair(NamedTuple):
    """Two words and how similar people find them."""

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class AnalogyScore:
    """Over the questions all of whose words have vectors."""

    right: Counter[str]
    "By section."
    asked: Counter[str]
    "By section."
    unknown: int
    "Questions with a word that has no vector of its own."

    @property
    def accuracy(self) -> float | None:
        """The fraction that is right; None where nothing was asked."""
        total = sum(self.asked.values())
        return sum(self.right.values()) / total if total else None


@dataclass(frozen=True)
class SimilarityScore:
    """Over the pairs both of whose words have vectors."""

    spearman: float | None
    "Rank correlation in [-1, 1]; None where there are not two pairs, or all are of one score."
    pairs: int
    unknown: int


def read_analogies(lines: Iterable[str], *, where: str) -> list[Analogy]:
    """Of a file as Mikolov et al. 2013 have it: `: SECTION` lines, and lines of four words.

    Raises:
        DataError: a line is neither, with its number.
    """
    found, section = [], NO_SECTION
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if fields[:1] == [":"]:
            section = " ".join(fields[1:])
        elif len(fields) == ANALOGY_WORDS:
            found.append(Analogy(section, (fields[0], fields[1], fields[2], fields[3])))
        elif fields:
            raise _bad_line(f"{where}, line {number}", line, "four words, or `: SECTION`")
    return found


def read_pairs(lines: Iterable[str], *, where: str) -> list[Pair]:
    """Of a file with two words and a number a line, parted by tabs, commas or spaces; `#` begins a comment.

    A first line whose third field is no number names the columns.

    Raises:
        DataError: a line is not of this form, with its number.
    """
    found = []
    for number, line in enumerate(lines, 1):
        fields = line.partition("#")[0].replace(",", " ").split()
        try:
            if fields:
                first, second, score = fields[:PAIR_FIELDS]
                found.append(Pair(first, second, float(score)))
        except ValueError:
            if number > 1:
                raise _bad_line(f"{where}, line {number}", line, "WORD WORD NUMBER") from None
    return found


def score_analogies(nearest: Nearest, analogies: Iterable[Analogy]) -> AnalogyScore:
    """3CosAdd's first answer must be the fourth word."""
    rows = nearest.vectors.rows
    given = list(analogies)
    known = [each for each in given if all(word in rows for word in each.words)]
    table = np.array([[rows[word] for word in each.words] for each in known], np.int64).reshape(
        -1, ANALOGY_WORDS
    )
    is_right = nearest.answers(table[:, :3]) == table[:, 3]
    right = Counter(each.section for each, right in zip(known, is_right, strict=True) if right)
    return AnalogyScore(right, Counter(each.section for each in known), len(given) - len(known))


def score_pairs(nearest: Nearest, pairs: Iterable[Pair]) -> SimilarityScore:
    """Spearman's rank correlation between the cosines and the scores."""
    given = list(pairs)
    cosines = nearest.cosines([(each.first, each.second) for each in given])
    known = [(cosine, each.score) for cosine, each in zip(cosines, given, strict=True) if cosine is not None]
    found = spearman(*np.array(known).T) if len(known) >= FEWEST_PAIRS else None
    return SimilarityScore(found, len(known), len(given) - len(known))


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Correlation of the ranks of x and y [num], equal values sharing theirs; None where all of one are equal."""
    a, b = (each - each.mean() for each in (_ranks(x), _ranks(y)))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last: NDArray[np.float64] = np.cumsum(counts).astype(np.float64)
    return (last - (counts - 1) / 2)[place]


def _bad_line(where: str, line: str, allowed: str) -> DataError:
    return DataError(
        f"the line {line.strip()[:80]!r} cannot be read", where=where, allowed=allowed, do="correct the line"
    )
