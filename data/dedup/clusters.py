"""From keys that agree to clusters of documents, and the one of each that stays."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from data.dedup.sketches import Numbers
from data.hashing import Hashes

Pairs = NDArray[np.uint64]  # [num_pairs, 2]: numbers of documents, the first below the second
Places = NDArray[np.int64]


class Keep(Enum):
    """Which document of a cluster stays."""

    first = "first"  # in the order of shards and rows
    longest = "longest"  # most characters; of several, the first


@dataclass(frozen=True)
class Clusters:
    """Documents that have a duplicate, by number, ascending; and the one of each one's cluster that stays."""

    documents: Numbers  # [D]
    kept: Numbers  # [D]

    @property
    def num_dropped(self) -> int:
        return int((self.documents != self.kept).sum())


def exact_pairs(keys: Hashes, texts: Hashes, documents: Numbers) -> Pairs:
    """The first document of each text with each other one; `keys` and `texts` are the two words of its hash."""
    keys, texts, documents = _repeated(keys, texts, documents)
    starts = _changes(keys) | _changes(texts)
    return _stars(documents, starts, members=~starts)


def near_pairs(keys: Hashes, texts: Hashes, documents: Numbers) -> Pairs:
    """The first document of each key with the first one of each other text of that key.

    Copies of one text are the business of `exact_pairs`; so there are no more pairs than different texts.
    """
    keys, texts, documents = _repeated(keys, texts, documents)
    starts = _changes(keys)
    return _stars(documents, starts, members=starts | _changes(texts))


def _repeated(keys: Hashes, texts: Hashes, documents: Numbers) -> tuple[Hashes, Hashes, Numbers]:
    """Those whose key another has too, sorted by key, text and document."""
    order = np.argsort(keys, kind="stable")
    is_new = _changes(keys[order])
    is_alone = is_new & np.append(is_new, True)[1:]
    rows = order[~is_alone]
    rows = rows[np.lexsort((documents[rows], texts[rows], keys[rows]))]
    return keys[rows], texts[rows], documents[rows]


def _changes(values: Hashes) -> NDArray[np.bool_]:
    """Where a value differs from the one before it; the first does."""
    changed = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def _stars(documents: Numbers, starts: NDArray[np.bool_], *, members: NDArray[np.bool_]) -> Pairs:
    """The least document of each group with each of its members but itself."""
    if not len(documents):
        return np.zeros((0, 2), np.uint64)
    least = np.minimum.reduceat(documents, np.flatnonzero(starts))[np.cumsum(starts) - 1]
    members = members & (documents != least)
    return np.column_stack([least[members], documents[members]])


def connect(
    files: Iterable[Callable[[], Pairs]], *, keep: Keep, lengths: Callable[[Numbers], NDArray[np.int64]]
) -> Clusters:
    """The connected components of the pairs in `files`, each read twice.

    Memory: about 70 bytes per document that has a duplicate, and one file's pairs; not per pair and not per document.
    """
    files = list(files)
    documents = _union(files)
    parents = np.arange(len(documents))
    for load in files:
        first, second = np.searchsorted(documents, load().T)
        _join(parents, first, second)
    if keep is Keep.longest:
        parents = _longest(parents, lengths(documents))
    return Clusters(documents, documents[parents])


def _union(files: list[Callable[[], Pairs]]) -> Numbers:
    """All documents of all pairs, ascending; merged whenever what is new is as much as what is there."""
    merged, fresh, num_fresh = np.zeros(0, np.uint64), [], 0
    for load in files:
        fresh.append(np.unique(load()))
        num_fresh += len(fresh[-1])
        if num_fresh > len(merged):
            merged, fresh, num_fresh = np.unique(np.concatenate([merged, *fresh])), [], 0
    return np.unique(np.concatenate([merged, *fresh]))


def _join(parents: Places, first: Places, second: Places) -> None:
    """Union by the lesser root, for all pairs at once; afterwards each document's parent is its root.

    Each round hooks every root that has a pair with a lesser one below the least such, then halves all paths away.
    """
    while len(first):
        first, second = parents[first], parents[second]
        open_pairs = first != second
        first, second = first[open_pairs], second[open_pairs]
        np.minimum.at(parents, np.maximum(first, second), np.minimum(first, second))
        while not np.array_equal(grand := parents[parents], parents):
            parents[:] = grand


def _longest(parents: Places, lengths: NDArray[np.int64]) -> Places:
    """For each document the longest one of its component, the first where several are."""
    order = np.lexsort((np.arange(len(parents)), -lengths, parents))
    roots = parents[order]
    is_best = np.ones(len(roots), np.bool_)
    np.not_equal(roots[1:], roots[:-1], out=is_best[1:])
    best = np.empty(len(parents), np.int64)
    best[roots[is_best]] = order[is_best]
    return best[parents]
