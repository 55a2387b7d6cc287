"""Evaluation batches: held-out tokens in order, each a target exactly once, whatever number of ranks shares them.

Letters: B rows of a rank's batch, T seq_len. Batch k gives row k * world_size * B + rank * B + i to place i of a
rank; every rank has the same number of batches, and a row beyond the last is all padding without a target.
"""

from typing import Protocol

import numpy as np

from data.batches import IGNORED, Batch, SequencePool
from data.errors import DataError
from data.example_rows import example_batch, rows_with_targets
from data.packed import Boundaries, document_batch
from data.packing import Ints
from data.shards import TokenShards


class HeldOut(Protocol):
    """What an evaluation asks of its data."""

    @property
    def num_sequences(self) -> int: ...
    @property
    def num_targets(self) -> int:
        """Targets over all batches and ranks."""
        ...

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the text that the targets spell: bits per byte are loss_sum / ln 2 / num_bytes."""
        ...

    def num_batches(self, *, world_size: int, micro_batch_size: int) -> int: ...
    def batch(self, index: int, *, rank: int, world_size: int, micro_batch_size: int) -> Batch: ...


class EvalSequences:
    """The concatenation of the shards in sequences of T; every token is the target of one position.

    The first token is predicted from the end-of-text id, as every other document's first token is. Raises `DataError`
    where there is no token.
    """

    def __init__(
        self, shards: TokenShards, *, seq_len: int, boundaries: Boundaries = Boundaries.ignore
    ) -> None:
        if not shards.num_tokens:
            raise DataError(
                "there is no held-out token to score",
                where=str(shards.paths[0].parent),
                allowed="at least one document",
                do="hold more documents out: a small corpus needs a larger validation_fraction",
            )
        self.shards, self.seq_len, self.boundaries = shards, seq_len, boundaries
        self.num_sequences = -(-shards.num_tokens // seq_len)

    @property
    def num_targets(self) -> int:
        return self.shards.num_tokens

    @property
    def num_bytes(self) -> int:
        return self.shards.num_bytes

    def num_batches(self, *, world_size: int, micro_batch_size: int) -> int:
        return -(-self.num_sequences // (world_size * micro_batch_size))

    def batch(self, index: int, *, rank: int, world_size: int, micro_batch_size: int) -> Batch:
        sequences = (index * world_size + rank) * micro_batch_size + np.arange(
            micro_batch_size, dtype=np.int64
        )
        inputs = np.full((micro_batch_size, self.seq_len), self.shards.format.eos_id, dtype=np.int64)
        labels = np.full((micro_batch_size, self.seq_len), IGNORED, dtype=np.int64)
        for place, start in enumerate((sequences * self.seq_len).tolist()):
            length = max(0, min(self.seq_len, self.shards.num_tokens - start))
            if length:
                self._fill(inputs[place, :length], labels[place, :length], start=start)
        batch = {"input_ids": inputs, "labels": labels}
        if self.boundaries is Boundaries.mask:
            batch |= document_batch(self.shards, sequences * self.seq_len, seq_len=self.seq_len)
        return batch

    def _fill(self, inputs: Ints, labels: Ints, *, start: int) -> None:
        self.shards.tokens.read_into(labels, start)
        inputs[1:] = labels[:-1]
        if start:  # else the end-of-text id stays
            self.shards.tokens.read_into(inputs[:1], start - 1)


class EvalExamples:
    """The examples of the shards in their order, one per row, cut and left out as `ExampleSequences` does."""

    def __init__(self, shards: TokenShards, *, seq_len: int, pad_id: int) -> None:
        self.shards, self.seq_len, self.pad_id = shards, seq_len, pad_id
        self.rows, self._targets_of_row, self.coverage = rows_with_targets(shards, seq_len=seq_len)
        self.num_sequences = len(self.rows)

    @property
    def num_targets(self) -> int:
        return int(self._targets_of_row.sum())

    @property
    def num_bytes(self) -> int:
        """Of all rows, also of what `coverage` counts as cut or left out: exact where those counts are 0."""
        return self.shards.num_bytes

    def num_batches(self, *, world_size: int, micro_batch_size: int) -> int:
        return -(-self.num_sequences // (world_size * micro_batch_size))

    def batch(self, index: int, *, rank: int, world_size: int, micro_batch_size: int) -> Batch:
        first = (index * world_size + rank) * micro_batch_size
        rows = self.rows[first : first + micro_batch_size]
        batch = example_batch(self.shards, rows, seq_len=self.seq_len, pad_id=self.pad_id)
        num_missing = micro_batch_size - len(rows)
        return {
            "input_ids": np.pad(batch["input_ids"], ((0, num_missing), (0, 0)), constant_values=self.pad_id),
            "labels": np.pad(batch["labels"], ((0, num_missing), (0, 0)), constant_values=IGNORED),
        }


class EvalPool:
    """The sequences of a pool in their order, each once; the last batch may be smaller. For one rank."""

    def __init__(self, pool: SequencePool) -> None:
        self._pool = pool
        self.num_sequences, self.num_bytes = pool.num_sequences, pool.shards.num_bytes

    @property
    def num_targets(self) -> int:
        return self._pool.num_targets(np.arange(self.num_sequences))

    def num_batches(self, *, world_size: int, micro_batch_size: int) -> int:
        return -(-self.num_sequences // (world_size * micro_batch_size))

    def batch(self, index: int, *, rank: int, world_size: int, micro_batch_size: int) -> Batch:
        assert (rank, world_size) == (0, 1), "a smaller last batch is for one rank"
        first = index * micro_batch_size
        return self._pool.batch(np.arange(first, min(first + micro_batch_size, self.num_sequences)))
