"""Training of a unigram vocabulary (Kudo 2018, arXiv:1804.10959, section 3.2); the same counts give the same pieces.

`tokenizers` has a trainer of its own, which sums in the order of its threads and hash tables: its scores differ from
run to run. This one is numpy on one thread. Two simplifications against the paper: a piece's loss compares it
with the best other way to write that piece alone, and the M step is the plain maximum, without a prior.

Letters: E edges of a lattice, one for each place of a piece in a word; a node is a place between two characters.
Substrings are numbered a length at a time, as a trie's nodes are: by the number of what is before the last character,
and that character. So there is no Python in the loops, and no hash that could collide.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_WORDS = 1 << 19  # the most frequent ones are learned from
MAX_WORD_CHARACTERS = 32  # longer ones are learned from in slices
MAX_PIECE_CHARACTERS = 16
SEEDS_PER_PIECE = 10
KEPT_FRACTION = 0.75  # of the pieces, in each round
STEPS_PER_ROUND = 2  # of expectation and maximisation
CODES = 1 << 21  # more than there are code points
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
        codes, firsts = _coded(words)
        piece, start, end = Trie.of(pieces).found(codes)
        owners = np.repeat(np.arange(len(words)), np.diff(firsts))
        return cls(owners[start], piece, start, end, firsts)

    def where(self, kept: NDArray[np.bool_]) -> "Lattice":
        """Only these edges."""
        return Lattice(self.word[kept], self.piece[kept], self.start[kept], self.end[kept], self.firsts)

    def expected(self, scores: Floats, frequencies: Floats) -> Floats:
        """How often each piece is used, over all ways to write each word by their probability (the E step)."""
        weights = scores[self.piece]
        forward = _swept(self._onward, weights, self.firsts[:-1], self.firsts[-1], np.logaddexp)
        backward = _swept(self._back, weights, self.firsts[1:] - 1, self.firsts[-1], np.logaddexp)
        total = forward[self.firsts[1:] - 1]
        used = np.exp(forward[self.start] + weights + backward[self.end] - total[self.word])
        return np.bincount(self.piece, used * frequencies[self.word], minlength=len(scores)).astype(
            np.float64
        )

    def best(self, scores: Floats) -> Floats:
        """[num_words]: the log probability of the best way to write each; -inf where there is none."""
        weights = scores[self.piece]
        return _swept(self._onward, weights, self.firsts[:-1], self.firsts[-1], np.maximum)[
            self.firsts[1:] - 1
        ]

    @cached_property
    def _onward(self) -> list["Step"]:
        return _steps(self.start, self.end, self.end - self.firsts[self.word])

    @cached_property
    def _back(self) -> list["Step"]:
        return _steps(self.end, self.start, self.firsts[self.word + 1] - 1 - self.start)


class Step(NamedTuple):
    """The edges that lead to all nodes at one distance from their words' origins."""

    edges: Ints
    sources: Ints
    begins: Ints
    "Where the edges to another node begin."
    targets: Ints
    "[num_begins]: that node."


def _steps(source: Ints, target: Ints, distance: Ints) -> list[Step]:
    order = np.argsort(distance.astype(np.uint16), kind="stable")  # words are in order: so are targets
    bounds = np.searchsorted(distance[order], np.arange(1, distance.max(initial=0) + 2))
    found = []
    for low, high in pairwise(bounds.tolist()):
        edges = order[low:high]
        begins = np.flatnonzero(np.diff(target[edges], prepend=-1))
        found.append(Step(edges, source[edges], begins, target[edges[begins]]))
    return found


def _swept(
    steps: Sequence[Step], weights: Floats, origins: Ints, num_nodes: int, combine: np.ufunc
) -> Floats:
    """The combined weight of all ways from a word's origin to each node, one distance after another."""
    reached = np.full(num_nodes, -np.inf)
    reached[origins] = 0.0
    for step in steps:
        reached[step.targets] = combine.reduceat(reached[step.sources] + weights[step.edges], step.begins)
    return reached


@dataclass(frozen=True)
class Trie:
    """Pieces by their beginnings; node 0 is the empty one, node k + 1 the one of keys[k]."""

    keys: Ints
    "Ascending: CODES times the node of all characters but the last, and the last."
    piece: Ints
    "[num_nodes]: the piece that ends at a node; -1 where none does."

    @classmethod
    def of(cls, pieces: Sequence[str]) -> "Trie":
        codes, firsts = _coded(pieces)
        numbers, nodes, keys = np.arange(len(pieces)), np.zeros(len(pieces), np.int64), [firsts[:0]]
        last, length, num_nodes = nodes.copy(), 0, 1
        while len(numbers):
            following = codes[firsts[numbers] + length]
            last[numbers] = nodes
            goes_on = following > 0
            numbers = numbers[goes_on]
            found, nodes = np.unique((nodes * CODES + following)[goes_on], return_inverse=True)
            keys.append(found)
            nodes, num_nodes, length = nodes + num_nodes, num_nodes + len(found), length + 1
        piece = np.full(num_nodes, -1)
        piece[last] = np.arange(len(pieces))
        return cls(np.concatenate(keys), piece)

    def found(self, codes: Ints) -> tuple[Ints, Ints, Ints]:
        """Every piece in every word: its number, its start and its end, by start and then by length."""
        starts, length = np.flatnonzero(codes), 0
        nodes, found = np.zeros(len(starts), np.int64), [np.empty((3, 0), np.int64)]
        while len(starts) and len(self.keys):
            wanted = nodes * CODES + codes[starts + length]
            places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            is_there = self.keys[places] == wanted
            starts, nodes, length = starts[is_there], places[is_there] + 1, length + 1
            ends_here = self.piece[nodes] >= 0
            begun = starts[ends_here]
            found.append(np.stack((self.piece[nodes[ends_here]], begun, begun + length)))
        joined = np.concatenate(found, axis=1)
        piece, start, end = joined[:, np.argsort(joined[1], kind="stable")]
        return piece, start, end


def _coded(words: Sequence[str]) -> tuple[Ints, Ints]:
    """A number above 0 for each character of each word, 0 after each word; and where each word begins, and the end."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    firsts = np.concatenate(([0], np.cumsum(lengths + 1)))
    codes = np.frombuffer(_laid_out(words).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64) + 1
    codes[firsts[1:] - 1] = 0
    return codes, firsts


def _laid_out(words: Iterable[str]) -> str:
    """The text in which a place is that of `_coded`."""
    return "\0".join([*words, ""])


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
    codes, _ = _coded(list(words))
    text = _laid_out(words)
    counts = np.repeat(list(words.values()), [len(word) + 1 for word in words])
    (places, times), *longer = _substrings(codes, counts)
    characters = zip((text[place] for place in places.tolist()), times.tolist(), strict=True)
    spans = [
        np.stack((times * length, places, places + length))[:, times > 1]
        for length, (places, times) in enumerate(longer, start=2)
    ]
    covered, starts, ends = np.concatenate([np.empty((3, 0), np.int64), *spans], axis=1)
    most = min(SEEDS_PER_PIECE * size, len(covered))
    least = np.partition(covered, -most)[-most] if most else 0  # of equal ones the first by their text
    found = [each[covered >= least].tolist() for each in (covered, starts, ends)]
    ranked = sorted((-times, text[start:end]) for times, start, end in zip(*found, strict=True))
    return dict(sorted(characters)) | {piece: -negative for negative, piece in ranked[:most]}


def _substrings(codes: Ints, counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """By length, where each substring of words is first, and how often it is; what occurs once is made no longer."""
    places = np.flatnonzero(codes)
    numbers = np.zeros(len(places), np.int64)
    for length in range(MAX_PIECE_CHARACTERS):
        following = codes[places + length]
        inside = following > 0
        places, keys = places[inside], (numbers * CODES + following)[inside]
        _, firsts, numbers = np.unique(keys, return_index=True, return_inverse=True)
        times = np.bincount(numbers, counts[places]).astype(np.int64)
        yield places[firsts], times
        is_repeated = times[numbers] > 1
        places, numbers = places[is_repeated], numbers[is_repeated]


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
