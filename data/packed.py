"""Sequences cut out of one long concatenation of documents: every token is a target, nothing is padding."""

from enum import Enum
from itertools import pairwise

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
        begin = sequence * self.seq_len
        end = begin + self.seq_len + 1
        first, starts = self.shards.starts_within(begin + 1, end)
        bounds = [begin, *starts.tolist(), end]
        return [Span(first - 1 + place, *pair) for place, pair in enumerate(pairwise(bounds))]


def document_batch(shards: TokenShards, targets_from: Ints, *, seq_len: int) -> Batch:
    """`document_ids` and `position_ids` of the sequences whose first targets are these tokens, [B]."""
    begins = [shards.starts_within(first + 1, first + seq_len)[1] - first for first in targets_from.tolist()]
    document_ids, position_ids = document_columns(begins, seq_len=seq_len)
    return {"document_ids": document_ids, "position_ids": position_ids}
