"""Integer hashes in numpy: the same on every machine, as arithmetic modulo 2**64 is."""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def mix64(x: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), modulo 2**64 as numpy's arrays wrap: a bijection."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
