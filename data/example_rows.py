"""Examples: one row of the shards per sequence, padded on the right; the loss mask says which tokens are targets."""

from dataclasses import dataclass

import numpy as np

from data.batches import IGNORED, Batch, SequencePool, Span
from data.errors import DataError
from data.packing import Ints
from data.shards import TokenShards

PAD_MULTIPLE = (
    16  # a micro batch's width is a multiple of this, for the tensor cores and for fewer shapes to compile
)


class ExampleSequences(SequencePool):
    """One example per sequence, padded to the longest of the micro batch.

    An example longer than `seq_len` is cut on the right; one that has no target left is not drawn at all.
    `coverage` counts both. Raises `DataError` where no example is left.
    """

    def __init__(self, shards: TokenShards, *, seq_len: int, pad_id: int) -> None:
        self.shards, self.seq_len, self.pad_id = shards, seq_len, pad_id
        self.rows, self.targets_of_row, self.coverage = rows_with_targets(shards, seq_len=seq_len)

    @property
    def num_sequences(self) -> int:
        return len(self.rows)

    def batch(self, sequences: Ints) -> Batch:
        return example_batch(self.shards, self.rows[sequences], seq_len=self.seq_len, pad_id=self.pad_id)

    def num_targets(self, sequences: Ints) -> int:
        return int(self.targets_of_row[self.rows[sequences]].sum())

    def spans(self, sequence: int) -> list[Span]:
        row = int(self.rows[sequence])
        begin, end = self.shards.row_starts[row : row + 2].tolist()
        return [Span(row, begin, min(end, begin + self.seq_len + 1))]


@dataclass(frozen=True)
class Coverage:
    """What becomes of the rows of the shards; num_rows = num_kept + num_without_targets."""

    num_rows: int
    "Rows in the shards."
    num_kept: int
    "Rows that are drawn."
    num_without_targets: int
    "Rows that have no target within seq_len, and so would add nothing to the loss."
    num_truncated: int
    "Kept rows of which the right end is cut."


def rows_with_targets(shards: TokenShards, *, seq_len: int) -> tuple[Ints, Ints, Coverage]:
    """The rows that have a target within `seq_len`, how many targets each row of the shards has, and counts.

    Raises `DataError` where no row has one. Reads the whole loss mask once.
    """
    starts, stops = shards.row_starts[:-1], shards.row_starts[1:]
    seen = np.minimum(stops, starts + 1 + seq_len)  # T inputs and the target of the last
    mask = shards.loss_mask
    targets = seen - starts - 1 if mask is None else mask.sums(starts + 1, seen)
    rows = np.flatnonzero(targets)
    if not len(rows):
        raise DataError(
            f"none of {shards.num_rows} rows has a target within {seq_len} tokens",
            where=str(shards.paths[0].parent),
            allowed="rows whose loss_mask marks a token after the first",
            do="look at the rows with `headrace inspect`, or set a longer seq_len",
        )
    num_truncated = int((seen[rows] < stops[rows]).sum())
    coverage = Coverage(shards.num_rows, len(rows), shards.num_rows - len(rows), num_truncated)
    return rows, targets, coverage


def example_batch(shards: TokenShards, rows: Ints, *, seq_len: int, pad_id: int) -> Batch:
    """The given rows, one per sequence, [B, T] with T the longest, rounded up to PAD_MULTIPLE within seq_len."""
    starts = shards.row_starts[rows]
    lengths = np.minimum(shards.row_starts[rows + 1] - starts - 1, seq_len)  # of inputs
    width = min(seq_len, -(-int(lengths.max(initial=1)) // PAD_MULTIPLE) * PAD_MULTIPLE)
    inputs = np.full((len(rows), width), pad_id, dtype=np.int64)
    labels = np.full((len(rows), width), IGNORED, dtype=np.int64)
    for place, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        tokens = shards.tokens.read(start, start + length + 1)
        inputs[place, :length], targets = tokens[:-1], tokens[1:].astype(np.int64)
        if shards.loss_mask is not None:
            targets[shards.loss_mask.read(start + 1, start + length + 1) == 0] = IGNORED
        labels[place, :length] = targets
    return {"input_ids": inputs, "labels": labels}
