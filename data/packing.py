"""Packing by concatenation: fixed-length sequences out of rows of tokens laid end to end, with no padding.

Letters: T seq_len, N tokens of the concatenation. Sequence i is the tokens [i*T, i*T + T + 1): T inputs and, one
to the right, T targets. Neighbours share one token, so that every token but the first is a target once an epoch;
what is left beyond the last whole sequence (fewer than T targets) is not seen.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import DTypeLike, NDArray

Ints = NDArray[np.int64]


class FlatArray:
    """Several one-dimensional arrays read as one, without joining them; the pieces stay views of mapped files."""

    def __init__(self, pieces: Sequence[NDArray[np.generic]], *, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.pieces: list[NDArray[np.generic]] = []
        self.starts = [0]  # of each piece, and the end
        self.add(pieces)

    def add(self, pieces: Sequence[NDArray[np.generic]]) -> None:
        """Lay more behind what is there."""
        more = [piece for piece in pieces if len(piece)]
        self.pieces += more
        self.starts += accumulate(map(len, more), initial=self.starts.pop())

    def __len__(self) -> int:
        return self.starts[-1]

    def read_into(self, out: NDArray[np.generic], start: int) -> None:
        """Fill `out` [n] with the elements [start, start + n), converted to its dtype."""
        assert 0 <= start <= len(self) - len(out), f"[{start}, {start + len(out)}) of {len(self)}"
        piece = bisect_right(self.starts, start) - 1
        filled, offset = 0, start - self.starts[piece]
        while filled < len(out):
            taken = self.pieces[piece][offset : offset + len(out) - filled]
            out[filled : filled + len(taken)] = taken
            filled, piece, offset = filled + len(taken), piece + 1, 0

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """A copy of the elements [start, stop)."""
        out = np.empty(stop - start, dtype=self.dtype)
        self.read_into(out, start)
        return out

    def sums(self, starts: Ints, stops: Ints) -> Ints:
        """The sum over each [starts[k], stops[k]); both ascending, starts[k] < stops[k] <= starts[k + 1].

        Memory is bounded by the largest piece: ranges lie across pieces as rows do not, so this asks that none does.
        """
        totals = np.zeros(len(starts), dtype=np.int64)
        for piece, first in zip(self.pieces, self.starts[:-1], strict=True):
            low, high = np.searchsorted(starts, [first, first + len(piece)])
            if low < high:
                running = np.concatenate(([0], np.cumsum(piece, dtype=np.int64)))
                totals[low:high] = running[stops[low:high] - first] - running[starts[low:high] - first]
        return totals


def num_packed(num_tokens: int, *, seq_len: int) -> int:
    """How many whole sequences of `seq_len` targets there are in `num_tokens`."""
    return max(0, num_tokens - 1) // seq_len


def pack(tokens: FlatArray, sequences: Ints, *, seq_len: int) -> tuple[Ints, Ints]:
    """Inputs and targets of the given sequences, two contiguous [B, T] of int64; targets are already shifted."""
    inputs = np.empty((len(sequences), seq_len), dtype=np.int64)
    labels = np.empty((len(sequences), seq_len), dtype=np.int64)
    row = np.empty(seq_len + 1, dtype=tokens.dtype)
    for place, sequence in enumerate(sequences.tolist()):
        tokens.read_into(row, sequence * seq_len)
        inputs[place], labels[place] = row[:-1], row[1:]
    return inputs, labels


def document_columns(begins: Sequence[Ints], *, seq_len: int) -> tuple[Ints, Ints]:
    """Which document each position works for, and where in it: document_ids and position_ids, both [B, T].

    A position belongs to the document of its *target*. So a document's first token is predicted from the
    end-of-text id before it, which stands as its beginning, and from nothing else; its own end-of-text id is a
    target only. Ids count up from 0 within a sequence; positions restart with each document.

    Args:
        begins: for each sequence, which of its targets begin a document, ascending, in [1, T): one at the first
            target opens no new id.
        seq_len: T.
    """
    document_ids = np.zeros((len(begins), seq_len), dtype=np.int64)
    for ids, places in zip(document_ids, begins, strict=True):
        ids[places] = 1
    starts = np.where(document_ids == 1, np.arange(seq_len), 0)  # [B, T], 0 or where a document begins
    np.cumsum(document_ids, axis=1, out=document_ids)
    return document_ids, np.arange(seq_len) - np.maximum.accumulate(starts, axis=1)
