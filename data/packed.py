"""Sequences cut out of one long concatenation of documents: every token is a target, nothing is padding."""

from enum import Enum
from pathlib import Path
from typing import Protocol

import numpy as np

from data.batches import Batch, SequencePool, Span
from data.errors import DataError
from data.packing import Ints, document_columns, num_packed, pack
from data.shards import TokenShards


class Boundaries(Enum):
    """What the ends of documents mean inside of a packed sequence."""

    ignore = "ignore"  # attention and positions run through them
    mask = "mask"  # attention stays within a document, positions restart: document_ids and position_ids are given


class PackedSequences(SequencePool):
    """Sequence i has the targets [i * T + 1, (i + 1) * T + 1) of the concatenation.

    Raises `DataError` where the shards do not fill one sequence.
    """

    def __init__(
        self, shards: TokenShards, *, seq_len: int, boundaries: Boundaries = Boundaries.ignore
    ) -> None:
        self.shards, self.seq_len, self.boundaries = shards, seq_len, boundaries
        self.reach(1)
        if not self.num_sequences:
            raise DataError(
                f"{shards.num_tokens} tokens do not fill one sequence of {seq_len}",
                where=str(shards.paths[0].parent),
                allowed=f"at least {seq_len + 1} tokens",
                do="add text, or set a shorter seq_len",
            )

    @property
    def num_sequences(self) -> int:
        return num_packed(self.shards.num_tokens, seq_len=self.seq_len)

    def batch(self, sequences: Ints) -> Batch:
        inputs, labels = pack(self.shards.tokens, sequences, seq_len=self.seq_len)
        batch = {"input_ids": inputs, "labels": labels}
        if self.boundaries is Boundaries.mask:
            batch |= document_batch(self.shards, sequences * self.seq_len + 1, seq_len=self.seq_len)
        return batch

    def num_targets(self, sequences: Ints) -> int:
        return len(sequences) * self.seq_len

    def spans(self, sequence: int) -> list[Span]:
        begin, starts = sequence * self.seq_len, self.shards.row_starts
        end = begin + self.seq_len + 1
        low = int(np.searchsorted(starts, begin, side="right")) - 1
        high = int(np.searchsorted(starts, end))
        bounds = np.clip(starts[low : high + 1], begin, end).tolist()
        return [Span(low + place, bounds[place], bounds[place + 1]) for place in range(high - low)]


class Feed(Protocol):
    """Shards that are still being written, in their order."""

    def __len__(self) -> int:
        """How many there will be."""
        ...

    def wait(self, number: int) -> Path:
        """Where shard `number` lies, once it is there."""
        ...


class FollowedSequences(PackedSequences):
    """The same sequences while their shards are still being written: those that exist by now, and more as they come."""

    def __init__(
        self,
        feed: Feed,
        *,
        seq_len: int,
        boundaries: Boundaries = Boundaries.ignore,
        tokenizer_hash: str | None = None,
    ) -> None:
        self._feed = feed
        first = TokenShards([feed.wait(0)], tokenizer_hash=tokenizer_hash)
        super().__init__(first, seq_len=seq_len, boundaries=boundaries)

    def reach(self, num_sequences: int) -> None:
        while self.num_sequences < num_sequences and len(self.shards.paths) < len(self._feed):
            self.shards.add([self._feed.wait(len(self.shards.paths))])

    def reach_all(self) -> None:
        self.shards.add([self._feed.wait(n) for n in range(len(self.shards.paths), len(self._feed))])


def document_batch(shards: TokenShards, targets_from: Ints, *, seq_len: int) -> Batch:
    document_ids, position_ids = document_columns(shards.row_starts, targets_from, seq_len=seq_len)
    return {"document_ids": document_ids, "position_ids": position_ids}
