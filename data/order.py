"""The order of training data: a keyed permutation of N items that is computed, never stored.

A pure function of (seed, epoch, index). Any element costs O(1), so seeking to a step costs nothing, no state is
kept but the step number, and the global batch at a step is the same whatever number of ranks shares it.

The permutation is an alternating Feistel network on Z_a x Z_b with a*b just above N, walked until it falls below
N (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002, methods 2 and 3). Because a*b < N + a with
a = ceil(sqrt(N)), about one item in sqrt(N) walks a second time.
"""

import hashlib
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data.hashing import mix64

Ids = NDArray[np.int64]

NUM_ROUNDS = (
    8  # even: as many on each half; 4 make the network a strong pseudo-random permutation, 8 leave room
)


@lru_cache(maxsize=8)  # the micro-steps of a step ask for the same ids; numpy's fixed costs are 0.2 ms
def draw(first: int, *, count: int, num_items: int, seed: int, window: int = 0) -> Ids:
    """The ids of the items drawn at places first, first + 1, ... of the endless order, [count].

    The k-th item drawn is in epoch k // num_items, at that epoch's place k % num_items. So step s of a global
    batch of G is `draw(s * G, count=G, ...)`; a step may lie across epochs, and may take an item twice where
    there are fewer items than it takes. The array is shared between callers and read-only.
    """
    ids = items_at(first + np.arange(count, dtype=np.int64), num_items=num_items, seed=seed, window=window)
    ids.flags.writeable = False
    return ids


def items_at(drawn: Ids, *, num_items: int, seed: int, stream: str = "", window: int = 0) -> Ids:
    """The ids of the items at these places of the endless order, same shape; each `stream` has an order of its own.

    With a window w an epoch goes through the items w by w, and only those of one window are shuffled among each other.
    So the first k windows of the first epoch are the same however many items follow them.
    """
    size = window or num_items
    starts = drawn - drawn % num_items % size
    ids = np.empty_like(drawn)
    for start in np.unique(starts).tolist():
        here = starts == start
        epoch, first = divmod(start, num_items)
        count = min(size, num_items - first)
        of_window = f"{stream}/from {first}" if window else stream
        ids[here] = first + permute(
            drawn[here] - start, num_items=count, seed=seed, epoch=epoch, stream=of_window
        )
    return ids


def permute(places: Ids, *, num_items: int, seed: int, epoch: int, stream: str = "") -> Ids:
    """Where epoch `epoch`'s permutation sends each of `places` (integers in [0, num_items)); same shape."""
    assert num_items > 0, "an order needs at least one item"
    keys = _round_keys(seed, epoch, stream)
    ids = _feistel(places.astype(np.uint64), num_items, keys)
    while (outside := np.flatnonzero(ids >= num_items)).size:  # cycle walking
        ids[outside] = _feistel(ids[outside], num_items, keys)
    return ids.astype(np.int64)


def _feistel(x: NDArray[np.uint64], num_items: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One pass over Z_a x Z_b: each round adds a keyed function of one half to the other half, modulo its size."""
    num_left = math.isqrt(num_items - 1) + 1  # ceil(sqrt(num_items))
    num_right = -(-num_items // num_left)
    sizes = np.uint64(num_left), np.uint64(num_right)
    left, right = x // sizes[1], x % sizes[1]
    for key_of_left, key_of_right in keys.reshape(-1, 2):
        left = (left + mix64(right + key_of_left) % sizes[0]) % sizes[0]
        right = (right + mix64(left + key_of_right) % sizes[1]) % sizes[1]
    return left * sizes[1] + right


def _round_keys(seed: int, epoch: int, stream: str) -> NDArray[np.uint64]:
    key = f"{seed}/{epoch}/{stream}" if stream else f"{seed}/{epoch}"
    digest = hashlib.blake2b(key.encode(), digest_size=NUM_ROUNDS * 8, person=b"headrace order")
    return np.frombuffer(digest.digest(), dtype="<u8").astype(np.uint64)
