"""Which documents share an n-gram with texts that a model is to be judged by.

After Brown et al., "Language models are few-shot learners" (arXiv:2005.14165), appendix C: 13 words in lower case
without punctuation. They cut 200 characters around a match out of a document and pass over n-grams that more than ten
documents have; here the whole document goes, and `min_overlap_fraction` spares a long one that only quotes. Another
text has one n-gram of all its words where it has fewer than n: it takes a document that says just the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import Problem
from data.hashing import Hashes
from data.ngrams import Units, units_of

HASHES_AT_ONCE = 1 << 22


@dataclass
class OverlapRules:
    """When a document shares too much with a reference."""

    ngram_words: int = 13
    "Words of an n-gram; >= 1. GPT-3: 13."
    ngram_characters: int = 20
    "The same for Chinese, Japanese, Thai and other scripts without spaces, in characters; >= 1."
    min_overlap_fraction: float = 0.0
    "Fraction of a document's n-grams that a reference has, from which it goes; 0 to 1. 0: one n-gram is enough."

    def problems(self) -> list[Problem]:
        found = [
            Problem(name, f"{getattr(self, name)}", "1 or more")
            for name in ("ngram_words", "ngram_characters")
            if getattr(self, name) < 1
        ]
        if not 0 <= self.min_overlap_fraction <= 1:
            found.append(
                Problem("min_overlap_fraction", f"{self.min_overlap_fraction}", "a fraction from 0 to 1")
            )
        return found


@dataclass(frozen=True)
class Overlap:
    """What a document has in common with one reference."""

    reference: int
    "The place of the reference among those given."
    ngram: str
    "The first n-gram in common, as the document has it: lower case, on one line."
    num_shared: int
    "N-grams of the document that the reference has."
    num_ngrams: int
    "All of the document's."


def reference_ngrams(texts: Iterable[str], *, rules: OverlapRules) -> tuple[Hashes, int]:
    """The different n-grams of texts, ascending; and how many texts are shorter than one."""
    merged, fresh, num_fresh, num_short = np.zeros(0, np.uint64), [], 0, 0
    for text in texts:
        units = units_of(text)
        num_short += len(units.hashes) < (rules.ngram_words if units.are_words else rules.ngram_characters)
        fresh.append(_ngrams(units, rules))
        num_fresh += len(fresh[-1])
        if num_fresh > max(len(merged), HASHES_AT_ONCE):
            merged, fresh, num_fresh = np.unique(np.concatenate([merged, *fresh])), [], 0
    return np.unique(np.concatenate([merged, *fresh])), num_short


def overlaps(text: str, references: Sequence[Hashes], *, rules: OverlapRules) -> list[Overlap]:
    """What `text` has in common with each reference (its n-grams, ascending) that it shares too much with."""
    units = units_of(text)
    ngrams = _ngrams(units, rules)
    found = []
    for number, reference in enumerate(references):
        shared = np.flatnonzero(_contains(reference, ngrams))
        if len(shared) and len(shared) >= rules.min_overlap_fraction * len(ngrams):
            ngram = units.ngram_text(
                int(shared[0]), words=rules.ngram_words, characters=rules.ngram_characters
            )
            found.append(Overlap(number, " ".join(ngram.split()), len(shared), len(ngrams)))
    return found


def _ngrams(units: Units, rules: OverlapRules) -> Hashes:
    return units.ngrams(words=rules.ngram_words, characters=rules.ngram_characters)


def _contains(ascending: Hashes, wanted: Hashes) -> NDArray[np.bool_]:
    """Which of `wanted` are in `ascending`, [len(wanted)]."""
    if not len(ascending):
        return np.zeros(len(wanted), np.bool_)
    places = np.searchsorted(ascending, wanted)
    found: NDArray[np.bool_] = ascending.take(places, mode="clip") == wanted
    return found
