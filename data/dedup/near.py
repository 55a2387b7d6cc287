"""Near duplicates: texts that share most of their n-grams, found by MinHash and locality-sensitive hashing.

MinHash: Broder, "On the resemblance and containment of documents" (1997). The least value of a random permutation over
two sets of n-grams is one with a probability of their Jaccard similarity s. Bands: Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", 3.4: a pair whose b bands of r values agree in any one is a candidate, with a
probability of 1 - (1 - s**r)**b. For language models: Lee et al., "Deduplicating training data makes language models
better" (arXiv:2107.06499), appendix A. The defaults are FineWeb's (Penedo et al., arXiv:2406.17557): 5 words, 14
bands of 8, so that a pair of s = 0.75 is found three times in four and one of 0.85 nearly always.

The permutations are x -> a * x + b modulo 2**64 with odd a, bijections, over n-gram hashes that are mixed already; a
and b come from BLAKE2b of the seed. The family is not min-wise independent in theory; the tests compare it with exact
Jaccard similarities.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data.errors import Problem
from data.hashing import Hashes, mix64
from data.ngrams import Places, units_of

NGRAMS_AT_ONCE = 1 << 14  # 8 bytes each: few enough for the cache, enough that numpy's fixed costs are small
BAND_FACTOR = 0x9FB21C651E98DF25  # odd
EMPTY = np.uint64(2**64 - 1)  # each value of the signature of a text without a word


@dataclass
class NearRules:
    """What makes two texts near duplicates."""

    ngram_words: int = 5
    "Words of an n-gram; >= 1. A text of fewer words has one n-gram: all of it."
    ngram_characters: int = 8
    "The same for Chinese, Japanese, Thai and other scripts without spaces, in characters; >= 1."
    num_bands: int = 14
    "Bands of a signature; two texts are candidates where one agrees; >= 1. More: less alike texts are found."
    num_rows: int = 8
    "Values of a band; >= 1. More: fewer candidates."
    min_similarity: float = 0.0
    "Jaccard similarity, estimated from the signatures, that candidates need; 0 to 1. 0: every candidate counts."
    seed: int = 1
    "Of the permutations."

    @property
    def num_permutations(self) -> int:
        return self.num_bands * self.num_rows

    def problems(self) -> list[Problem]:
        numbers = ("ngram_words", "ngram_characters", "num_bands", "num_rows")
        found = [
            Problem(name, f"{getattr(self, name)}", "1 or more")
            for name in numbers
            if getattr(self, name) < 1
        ]
        if not 0 <= self.min_similarity <= 1:
            found.append(Problem("min_similarity", f"{self.min_similarity}", "a fraction from 0 to 1"))
        return found


def signatures(texts: Sequence[str], *, rules: NearRules) -> Hashes:
    """The MinHash signature of each text, [num_texts, num_permutations]; `EMPTY` throughout where it has no word."""
    found = np.full((len(texts), rules.num_permutations), EMPTY)
    for rows, ngrams, starts in _groups(texts, rules):
        np.minimum.at(found, rows, least_values(ngrams, starts, rules))
    return found


def least_values(ngrams: Hashes, starts: Places, rules: NearRules) -> Hashes:
    """The least value of each permutation over each run of n-grams, [num_starts, num_permutations]."""
    minima = np.empty((rules.num_permutations, len(starts)), np.uint64)
    permuted = np.empty_like(ngrams)
    for factor, addend, row in zip(*_permutations(rules.num_permutations, rules.seed), minima, strict=True):
        np.multiply(ngrams, factor, out=permuted)
        permuted += addend
        np.minimum.reduceat(permuted, starts, out=row)
    return minima.T


def _groups(texts: Sequence[str], rules: NearRules) -> Iterator[tuple[Places, Hashes, Places]]:
    """N-grams of several texts, or a stretch of a long one: the texts' rows, their n-grams, and where each begins."""
    held: list[tuple[int, Hashes]] = []
    num_held = 0
    for row, text in enumerate(texts):
        ngrams = units_of(text).ngrams(words=rules.ngram_words, characters=rules.ngram_characters)
        for low in range(0, len(ngrams), NGRAMS_AT_ONCE):
            held.append((row, ngrams[low : low + NGRAMS_AT_ONCE]))
            num_held += len(held[-1][1])
            if num_held >= NGRAMS_AT_ONCE:
                yield _joined(held)
                held, num_held = [], 0
    if held:
        yield _joined(held)


def _joined(held: list[tuple[int, Hashes]]) -> tuple[Places, Hashes, Places]:
    rows, ngrams = zip(*held, strict=True)
    starts = np.cumsum([0, *map(len, ngrams[:-1])])
    return np.array(rows), np.concatenate(ngrams), starts


def band_keys(found: Hashes, *, rules: NearRules) -> Hashes:
    """One hash per band of each signature, [num_texts, num_bands]."""
    values = found.reshape(len(found), rules.num_bands, rules.num_rows)
    keys = np.zeros(values.shape[:2], np.uint64)
    for place in range(rules.num_rows):
        keys = mix64(keys * np.uint64(BAND_FACTOR) + values[:, :, place])
    return keys


def estimated_similarity(one: Hashes, other: Hashes) -> NDArray[np.float32]:
    """The fraction of values that agree, [num_pairs], of signatures [num_pairs, num_permutations]: unbiased."""
    fractions: NDArray[np.float32] = (one == other).mean(axis=1, dtype=np.float32)
    return fractions


@cache
def _permutations(number: int, seed: int) -> tuple[Hashes, Hashes]:
    """Factors, all odd, and addends, [number] each."""
    raw = b"".join(
        hashlib.blake2b(f"{seed}/{k}".encode(), digest_size=16, person=b"headrace minhash").digest()
        for k in range(number)
    )
    drawn = np.frombuffer(raw, dtype="<u8").astype(np.uint64).reshape(number, 2)
    return drawn[:, 0] | np.uint64(1), drawn[:, 1]
