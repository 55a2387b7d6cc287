"""Exact duplicates: texts whose normalized forms have one hash; the first in (shard, row) order stays.

A hash is 16 bytes of BLAKE2b, [2] of uint64, so that two different texts out of 10**12 meet with probability
below 10**-14 (birthday bound n**2 / 2**129) and a corpus of a billion documents is 16 GB.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]  # [num_documents, 2]
Mask = NDArray[np.bool_]  # [num_documents]

NUM_BUCKETS = 64  # the first hash word's high bits; the merge sorts one bucket's keys at a time

_SPACES = re.compile(r"\s+")
_PUNCTUATION = re.compile(r"[^\w\s]")


@dataclass
class DedupRules:
    """Which differences between two texts do not count."""

    ignore_whitespace: bool = True
    "Runs of white space are as one space, and none at the ends."
    ignore_case: bool = False
    "Upper and lower case are one (case folding)."
    ignore_punctuation: bool = False
    "What is neither letter, digit, underscore nor white space is not there."


@dataclass(frozen=True)
class DedupCounters:
    """num_documents = num_kept + num_duplicates."""

    num_documents: int
    num_kept: int
    num_duplicates: int


def content_hash(text: str, rules: DedupRules) -> bytes:
    """16 bytes; equal for texts that the rules hold to be one. Unicode is compared in NFC."""
    text = unicodedata.normalize("NFC", text)
    if rules.ignore_case:
        text = unicodedata.normalize("NFC", text.casefold())
    if rules.ignore_punctuation:
        text = _PUNCTUATION.sub("", text)
    if rules.ignore_whitespace:
        text = _SPACES.sub(" ", text).strip()
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def hash_texts(texts: Iterable[str], *, rules: DedupRules) -> Hashes:
    """The hashes of a shard's texts in order, [num_documents, 2]; what a shard's task writes."""
    raw = b"".join(content_hash(text, rules) for text in texts)
    return np.frombuffer(raw, dtype="<u8").astype(np.uint64).reshape(-1, 2)


def keep_masks(shards: Sequence[Hashes]) -> tuple[list[Mask], DedupCounters]:
    """Which documents of each shard stay, and how many.

    Beside the hashes themselves it holds a bit mask and the sort of 1/64 of the keys: a billion documents take
    about 1.5 GB of work space.
    """
    bounds = np.cumsum([0, *(len(hashes) for hashes in shards)])
    flat = np.ones(int(bounds[-1]), dtype=np.bool_)
    for bucket in range(NUM_BUCKETS):
        rows, keys = _bucket(shards, bounds, bucket)
        flat[rows[_repeats(keys)]] = False
    keep = [flat[low:high] for low, high in pairwise(bounds)]
    num_kept = int(flat.sum())
    return keep, DedupCounters(len(flat), num_kept, len(flat) - num_kept)


def _bucket(
    shards: Sequence[Hashes], bounds: NDArray[np.int64], bucket: int
) -> tuple[NDArray[np.int64], Hashes]:
    """The global rows whose first hash word begins with `bucket`, ascending, and their hashes."""
    shift = np.uint64(64 - (NUM_BUCKETS - 1).bit_length())
    rows = [np.flatnonzero(hashes[:, 0] >> shift == bucket) for hashes in shards]
    keys = [hashes[found] for hashes, found in zip(shards, rows, strict=True)]
    starts = bounds[:-1]
    shifted = [found + start for found, start in zip(rows, starts, strict=True)]
    if not shifted:
        return np.zeros(0, np.int64), np.zeros((0, 2), np.uint64)
    return np.concatenate(shifted), np.concatenate(keys)


def _repeats(keys: Hashes) -> NDArray[np.int64]:
    """The places of keys that an earlier place has too."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: equal keys stay in the order of their places
    in_order = keys[order]
    repeated = (in_order[1:] == in_order[:-1]).all(axis=1)
    places: NDArray[np.int64] = order[1:][repeated]
    return places
