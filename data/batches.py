"""Training batches out of token shards: dicts of numpy arrays, a pure function of (seed, step, who asks).

Letters: G sequences of a global batch, B of a micro batch, T seq_len. Place j of the global batch goes to
j = (micro_step * world_size + rank) * micro_batch_size + i, so that every split of the work sees the same G
sequences at a step, and the loader's whole state is the step number.

Keys: `input_ids`, `labels` (already shifted: labels[b, t] is the target of position t; IGNORED where there is
none), and where documents are masked `document_ids`, `position_ids`; all int64 [B, T].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.mixture import Mixture
from data.order import draw, items_at
from data.packing import Ints, document_columns, num_packed, pack
from data.shards import TokenShards

IGNORED = -100  # the label of a position without a target, as torch.nn.functional.cross_entropy ignores it
PAD_MULTIPLE = (
    16  # a micro batch's width is a multiple of this, for the tensor cores and for fewer shapes to compile
)

Batch = dict[str, NDArray[np.int64]]


class Boundaries(Enum):
    """What the ends of documents mean inside of a packed sequence."""

    ignore = "ignore"  # attention and positions run through them
    mask = "mask"  # attention stays within a document, positions restart: document_ids and position_ids are given


class TrainingBatches(Protocol):
    """What the training loop asks of its data."""

    @property
    def num_sequences(self) -> int:
        """Sequences in an epoch."""
        ...

    def batch(
        self, step: int, *, rank: int, world_size: int, micro_step: int, micro_batch_size: int
    ) -> Batch:
        """One rank's share of one micro-step."""
        ...

    def sequence_ids(self, step: int) -> Ints:
        """The ids of the global batch, [G], in its order; the same for every world size."""
        ...

    def num_targets(self, step: int) -> int:
        """Targets of the whole global batch: what its summed loss is divided by."""
        ...

    def rows_of(self, sequence: int) -> "Rows":
        """The rows that a sequence, by its id, is made of."""
        ...

    def document_names(self, step: int, *, limit: int) -> list[str]:
        """Up to `limit` ids of documents or examples in the global batch, for a report on the step."""
        ...


class Rows(NamedTuple):
    """Where the tokens of a sequence lie."""

    source: int
    rows: range
    "Rows of that source's shards."
    begin: int
    "First token in the source's concatenation."
    end: int


class PretrainBatches:
    """Packed sequences of `seq_len` targets, of one source or of a mixture.

    An id is the sequence's place in the concatenation of its source, behind all sequences of the sources before it.
    Raises `DataError` where a source does not fill one sequence.
    """

    def __init__(
        self,
        sources: Sequence[TokenShards],
        *,
        seq_len: int,
        sequences_per_step: int,
        seed: int,
        boundaries: Boundaries = Boundaries.ignore,
        mixture: Mixture | None = None,
    ) -> None:
        assert mixture is not None or len(sources) == 1, "several sources need a mixture"
        self.sources, self.seq_len, self.per_step, self.seed = sources, seq_len, sequences_per_step, seed
        self.boundaries, self.mixture = boundaries, mixture
        self.sizes = [_num_sequences(shards, seq_len) for shards in sources]
        self.num_sequences = sum(self.sizes)
        self._first_ids = np.cumsum([0, *self.sizes])

    def batch(
        self, step: int, *, rank: int, world_size: int, micro_step: int, micro_batch_size: int
    ) -> Batch:
        first = (micro_step * world_size + rank) * micro_batch_size
        ids = self._ids(step, first=first, count=micro_batch_size)
        parts = [
            (rows, self._batch_of(source, sequences)) for rows, source, sequences in self._by_source(ids)
        ]
        if len(parts) == 1:
            return parts[0][1]
        return {name: _scattered([(rows, part[name]) for rows, part in parts]) for name in parts[0][1]}

    def sequence_ids(self, step: int) -> Ints:
        return self._ids(step, first=0, count=self.per_step)

    def num_targets(self, step: int) -> int:  # noqa: ARG002 - every step has as many
        return self.per_step * self.seq_len

    def document_names(self, step: int, *, limit: int) -> list[str]:
        return _first_names(self, step, limit)

    def rows_of(self, sequence: int) -> Rows:
        source = int(np.searchsorted(self._first_ids, sequence, side="right")) - 1
        begin = (sequence - int(self._first_ids[source])) * self.seq_len
        end, starts = begin + self.seq_len + 1, self.sources[source].row_starts
        low = int(np.searchsorted(starts, begin, side="right")) - 1
        return Rows(source, range(low, int(np.searchsorted(starts, end))), begin, end)

    def _ids(self, step: int, *, first: int, count: int) -> Ints:
        if self.mixture is None:
            return _share(self, step, first=first, count=count)
        _check_share(self.per_step, first=first, count=count)
        sources, places = self.mixture.draw(step * self.per_step + first, count=count)
        ids = np.empty_like(places)
        for source in np.unique(sources).tolist():
            here = sources == source
            ids[here] = self._first_ids[source] + items_at(
                places[here], num_items=self.sizes[source], seed=self.seed, stream=str(source)
            )
        return ids

    def _by_source(self, ids: Ints) -> list[tuple[Ints, int, Ints]]:
        """Which rows of a batch a source gives, and which of its sequences; for each source that gives any."""
        of_row = np.searchsorted(self._first_ids, ids, side="right") - 1
        found = [(np.flatnonzero(of_row == source), source) for source in np.unique(of_row).tolist()]
        return [(rows, source, ids[rows] - self._first_ids[source]) for rows, source in found]

    def _batch_of(self, source: int, sequences: Ints) -> Batch:
        shards = self.sources[source]
        inputs, labels = pack(shards.tokens, sequences, seq_len=self.seq_len)
        batch = {"input_ids": inputs, "labels": labels}
        if self.boundaries is Boundaries.mask:
            batch |= document_batch(shards, sequences * self.seq_len + 1, seq_len=self.seq_len)
        return batch


def _num_sequences(shards: TokenShards, seq_len: int) -> int:
    num_sequences = num_packed(shards.num_tokens, seq_len=seq_len)
    if not num_sequences:
        raise DataError(
            f"{shards.num_tokens} tokens do not fill one sequence of {seq_len}",
            where=str(shards.paths[0].parent),
            allowed=f"at least {seq_len + 1} tokens",
            do="add text, or set a shorter seq_len",
        )
    return num_sequences


def _scattered(parts: list[tuple[Ints, NDArray[np.int64]]]) -> NDArray[np.int64]:
    """Rows put where they belong: [B, T] out of pairs of rows [n] and their content [n, T]."""
    whole = np.empty((sum(len(rows) for rows, _ in parts), parts[0][1].shape[1]), dtype=np.int64)
    for rows, content in parts:
        whole[rows] = content
    return whole


class ExampleBatches:
    """One example (one row of the shards) per sequence, padded on the right to the longest of the micro batch.

    An example longer than `seq_len` is cut on the right; one that has no target left is not drawn at all.
    `coverage` counts both. An id is the row's number in the shards. Raises `DataError` where no example is left.
    """

    def __init__(
        self, shards: TokenShards, *, seq_len: int, examples_per_step: int, seed: int, pad_id: int
    ) -> None:
        self.shards, self.seq_len, self.per_step, self.seed = shards, seq_len, examples_per_step, seed
        self.pad_id = pad_id
        self.rows, self.targets_of_row, self.coverage = rows_with_targets(shards, seq_len=seq_len)
        self.num_sequences = len(self.rows)

    def batch(
        self, step: int, *, rank: int, world_size: int, micro_step: int, micro_batch_size: int
    ) -> Batch:
        first = (micro_step * world_size + rank) * micro_batch_size
        rows = self.rows[_share(self, step, first=first, count=micro_batch_size)]
        return example_batch(self.shards, rows, seq_len=self.seq_len, pad_id=self.pad_id)

    def sequence_ids(self, step: int) -> Ints:
        return self.rows[_share(self, step, first=0, count=self.per_step)]

    def num_targets(self, step: int) -> int:
        return int(self.targets_of_row[self.sequence_ids(step)].sum())

    def document_names(self, step: int, *, limit: int) -> list[str]:
        return _first_names(self, step, limit)

    @property
    def sources(self) -> list[TokenShards]:
        return [self.shards]

    def rows_of(self, sequence: int) -> Rows:
        begin, end = self.shards.row_starts[sequence : sequence + 2].tolist()
        return Rows(0, range(sequence, sequence + 1), begin, min(end, begin + self.seq_len + 1))


def _share(batches: PretrainBatches | ExampleBatches, step: int, *, first: int, count: int) -> Ints:
    _check_share(batches.per_step, first=first, count=count)
    drawn = draw(
        step * batches.per_step, count=batches.per_step, num_items=batches.num_sequences, seed=batches.seed
    )
    return drawn[first : first + count]


def _check_share(per_step: int, *, first: int, count: int) -> None:
    assert min(first, count) >= 0, f"places [{first}, {first + count})"
    assert first + count <= per_step, (
        f"places [{first}, {first + count}) of a global batch of {per_step}: "
        "world_size * micro_batch_size * micro-steps must be the global batch"
    )


def _first_names(batches: PretrainBatches | ExampleBatches, step: int, limit: int) -> list[str]:
    found = (batches.rows_of(sequence) for sequence in batches.sequence_ids(step).tolist())
    names = (batches.sources[each.source].row_name(row) for each in found for row in each.rows)
    return list(islice(names, limit))


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


def document_batch(shards: TokenShards, targets_from: Ints, *, seq_len: int) -> Batch:
    document_ids, position_ids = document_columns(shards.row_starts, targets_from, seq_len=seq_len)
    return {"document_ids": document_ids, "position_ids": position_ids}
