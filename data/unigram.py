"""Training of a unigram vocabulary (Kudo 2018, arXiv:1804.10959, section 3.2); the same counts give the same pieces.

`tokenizers` has a trainer of its own, which sums in the order of its threads and hash tables: its scores differ from
run to run. This one is numpy on one thread. Two simplifications against the paper: a piece's loss compares it
with the best other way to write that piece alone, and the M step is the plain maximum, without a prior.

Letters: E edges of a lattice, one for each place of a piece in a word; a node is a place between two characters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

MAX_WORDS = 1 << 19  # the most frequent ones are learned from
MAX_WORD_CHARACTERS = 32  # longer ones are learned from in slices
MAX_PIECE_CHARACTERS = 16
SEEDS_PER_PIECE = 10
KEPT_FRACTION = 0.75  # of the pieces, in each round
STEPS_PER_ROUND = 2  # of expectation and maximisation
LEAST_COUNT = 1e-3  # a piece below is dropped; a character that no word needs stays with this

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def learn_pieces(counts: Mapping[str, int], *, size: int) -> list[tuple[str, float]]:
    """At most `size` pieces and their log probabilities, the likeliest first; every character of a word is one.

    Args:
        counts: how often each word occurs.
        size: at least the number of distinct characters.
    """
    words = _sliced(counts)
    seeds = _seeds(words, size=size)
    pieces = list(seeds)
    frequencies = np.array(list(words.values()), dtype=np.float64)
    lattice, alone = Lattice.of(list(words), pieces), Lattice.of(pieces, pieces)
    alone = alone.where(alone.piece != alone.word)  # every other way to write each piece
    is_character = np.array([len(piece) == 1 for piece in pieces])
    scores = np.log(np.array(list(seeds.values()), dtype=np.float64) / sum(seeds.values()))
    alive = np.ones(len(pieces), dtype=bool)
    while True:
        for _ in range(STEPS_PER_ROUND):
            expected = lattice.expected(scores, frequencies)
            expected = np.where(is_character, np.maximum(expected, LEAST_COUNT), expected)
            alive &= expected >= LEAST_COUNT
            scores = np.log(np.where(alive, expected, 1.0) / expected[alive].sum())
            scores[~alive] = -np.inf
        if alive.sum() <= size:
            return _ranked(pieces, scores, alive)
        kept = max(size, int(alive.sum() * KEPT_FRACTION))
        loss = _loss(expected, scores - alone.best(scores), alive)
        alive = _largest(np.where(is_character, np.inf, loss), kept)
        lattice, alone = (each.where(alive[each.piece]) for each in (lattice, alone))


@dataclass(frozen=True)
class Lattice:
    """All ways to write words as pieces: flat arrays [E], edges in the order of their words and places."""

    word: Ints
    piece: Ints
    start: Ints
    "The node that an edge begins at."
    end: Ints
    firsts: Ints
    "[num_words + 1]: the first node of each word; its last is the one before the next word's first."

    @classmethod
    def of(cls, words: Sequence[str], pieces: Sequence[str]) -> "Lattice":
        ids = {piece: id_ for id_, piece in enumerate(pieces)}
        firsts = [0, *accumulate(len(word) + 1 for word in words)]
        edges: list[int] = []
        for number, word in enumerate(words):
            first = firsts[number]
            for start in range(len(word)):
                for end in range(start + 1, min(len(word), start + MAX_PIECE_CHARACTERS) + 1):
                    if (id_ := ids.get(word[start:end])) is not None:
                        edges += (number, id_, first + start, first + end)
        owner, id_of, source, target = np.array(edges, dtype=np.int64).reshape(-1, 4).T.copy()
        return cls(owner, id_of, source, target, np.array(firsts, dtype=np.int64))

    def where(self, kept: NDArray[np.bool_]) -> "Lattice":
        """Only these edges."""
        return Lattice(self.word[kept], self.piece[kept], self.start[kept], self.end[kept], self.firsts)

    def expected(self, scores: Floats, frequencies: Floats) -> Floats:
        """How often each piece is used, over all ways to write each word by their probability (the E step)."""
        weights = scores[self.piece]
        forward = self._swept(weights, self.start, self.end, self.firsts[:-1], np.logaddexp)
        backward = self._swept(weights, self.end, self.start, self.firsts[1:] - 1, np.logaddexp)
        total = forward[self.firsts[1:] - 1]
        used = np.exp(forward[self.start] + weights + backward[self.end] - total[self.word])
        return np.bincount(self.piece, used * frequencies[self.word], minlength=len(scores)).astype(
            np.float64
        )

    def best(self, scores: Floats) -> Floats:
        """[num_words]: the log probability of the best way to write each; -inf where there is none."""
        forward = self._swept(scores[self.piece], self.start, self.end, self.firsts[:-1], np.maximum)
        return forward[self.firsts[1:] - 1]

    def _swept(self, weights: Floats, source: Ints, target: Ints, origins: Ints, combine: np.ufunc) -> Floats:
        """The combined weight of all ways from a word's origin to each node, one distance after another."""
        reached = np.full(self.firsts[-1], -np.inf)
        reached[origins] = 0.0
        distance = np.abs(target - origins[self.word])
        order = np.lexsort((target, distance))
        bounds = np.searchsorted(distance[order], np.arange(1, distance.max(initial=0) + 2))
        for low, high in pairwise(bounds.tolist()):
            edges = order[low:high]
            targets = target[edges]
            begins = np.flatnonzero(np.diff(targets, prepend=-1))
            reached[targets[begins]] = combine.reduceat(reached[source[edges]] + weights[edges], begins)
        return reached


def _sliced(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent words, the long ones in slices, in a fixed order."""
    chosen = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_WORDS]
    slices: Counter[str] = Counter()
    for word, count in chosen:
        for start in range(0, len(word), MAX_WORD_CHARACTERS):
            slices[word[start : start + MAX_WORD_CHARACTERS]] += count
    return dict(sorted(slices.items()))


def _seeds(words: Mapping[str, int], *, size: int) -> dict[str, int]:
    """Every character, and the substrings that cover most text, with what they cover; what occurs once is none."""
    characters: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for word, count in words.items():
        for start, character in enumerate(word):
            characters[character] += count
            for end in range(start + 2, min(len(word), start + MAX_PIECE_CHARACTERS) + 1):
                found[word[start:end]] += count
    longer = ((count * len(piece), piece) for piece, count in found.items() if count > 1)
    ranked = sorted(longer, key=lambda item: (-item[0], item[1]))[: SEEDS_PER_PIECE * size]
    return dict(sorted(characters.items())) | {piece: covered for covered, piece in ranked}


def _loss(expected: Floats, better: Floats, alive: NDArray[np.bool_]) -> Floats:
    """What the log likelihood loses without each piece; -inf where it is gone already."""
    return np.where(alive, expected, 1.0) * np.where(alive, better, -np.inf)


def _largest(values: Floats, count: int) -> NDArray[np.bool_]:
    """Where the `count` largest are; of equal ones the first."""
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[:count]] = True
    return chosen


def _ranked(pieces: Sequence[str], scores: Floats, alive: NDArray[np.bool_]) -> list[tuple[str, float]]:
    """Scores are rounded, so that the last bit of a logarithm is no part of the vocabulary."""
    kept = [(pieces[k], round(float(scores[k]), 6)) for k in np.flatnonzero(alive).tolist()]
    return sorted(kept, key=lambda item: (-item[1], item[0]))
