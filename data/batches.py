"""Training batches: dicts of numpy arrays, a pure function of (seed, step, who asks).

Letters: G sequences of a global batch, B of a micro batch, T seq_len. Place j of the global batch goes to
j = (micro_step * world_size + rank) * micro_batch_size + i, so that every split of the work sees the same G
sequences at a step, and the loader's whole state is the step number.

Keys: `input_ids`, `labels` (already shifted: labels[b, t] is the target of position t; IGNORED where there is
none), and where documents are masked `document_ids`, `position_ids`; all int64 [B, T].
"""

from collections.abc import Sequence
from itertools import islice
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from data.mixture import Mixture
from data.order import draw, items_at
from data.packing import Ints
from data.shards import TokenShards

IGNORED = -100  # the label of a position without a target, as torch.nn.functional.cross_entropy ignores it

Batch = dict[str, NDArray[np.int64]]


class Span(NamedTuple):
    """Tokens of one row that a sequence is made of, inputs and targets: [begin, end) of the concatenation."""

    row: int
    begin: int
    end: int


class SequencePool(Protocol):
    """The sequences that one source's rows make, numbered from 0."""

    shards: TokenShards

    @property
    def num_sequences(self) -> int:
        """Those that are there by now."""
        ...

    def reach(self, num_sequences: int) -> None:
        """Wait until so many are there, or all; a source that is whole from the start need not."""
        del num_sequences

    def batch(self, sequences: Ints) -> Batch:
        """Their inputs and labels."""
        ...

    def num_targets(self, sequences: Ints) -> int:
        """Positions with a target in all of them."""
        ...

    def spans(self, sequence: int) -> list[Span]:
        """What one is made of, in order."""
        ...


class Corruption(Protocol):
    """What an objective makes of plain sequences; a place is a sequence's number in the endless order of training."""

    keeps_targets: ClassVar[bool] = False
    "Whether the targets are those of the plain sequences, so that they still spell the text."

    def corrupt(self, batch: Batch, places: Ints) -> Batch:
        """What the model reads of a pool's batch, and its labels; a pure function of the batch and places [B]."""
        ...

    def num_targets(self, batch: Batch, places: Ints) -> Ints:
        """How many positions with a target `corrupt` leaves in each sequence, [B]."""
        ...


class TrainingBatches:
    """The sequences of one source, or of several as a mixture, in the order of the seed.

    An id is the number of sources times the sequence's number in its source, plus the number of the source.

    Args:
        pools: one for each source.
        sequences_per_step: G.
        seed: of the order.
        window: sequences of a source that are shuffled among each other; 0: all of them.
        mixture: which source gives which sequence; needed where there are several.
        names: of the sources, where they are several.
        corruption: of what the sequences become; None: they stay as they are.
    """

    def __init__(
        self,
        pools: Sequence[SequencePool],
        *,
        sequences_per_step: int,
        seed: int,
        window: int = 0,
        mixture: Mixture | None = None,
        names: Sequence[str] = (),
        corruption: Corruption | None = None,
    ) -> None:
        assert mixture is not None or len(pools) == 1, "several sources need a mixture"
        self.pools, self.per_step, self.seed, self.mixture = pools, sequences_per_step, seed, mixture
        self.window, self.names, self.corruption = window, names, corruption

    @property
    def num_sequences(self) -> int:
        """Sequences of all sources together, as far as they are there; of one source, an epoch."""
        return sum(pool.num_sequences for pool in self.pools)

    def batch(
        self, step: int, *, rank: int, world_size: int, micro_step: int, micro_batch_size: int
    ) -> Batch:
        """One rank's share of one micro-step."""
        first = (micro_step * world_size + rank) * micro_batch_size
        found = self._by_pool(self._ids(step, first=first, count=micro_batch_size))
        parts = [(rows, self.pools[pool].batch(sequences)) for rows, pool, sequences in found]
        batch = parts[0][1] if len(parts) == 1 else _joined(parts)
        if self.corruption is None:
            return batch
        return self.corruption.corrupt(batch, self._places(step, first=first, count=micro_batch_size))

    def sources(
        self, step: int, *, rank: int, world_size: int, micro_step: int, micro_batch_size: int
    ) -> Ints:
        """The number of the source that each row of `batch` is from, [B]."""
        first = (micro_step * world_size + rank) * micro_batch_size
        if self.mixture is None:
            return np.zeros(micro_batch_size, dtype=np.int64)
        return self.mixture.draw(step * self.per_step + first, count=micro_batch_size)[0]

    def sequence_ids(self, step: int) -> Ints:
        """The ids of the global batch, [G], in its order; the same for every world size."""
        return self._ids(step, first=0, count=self.per_step)

    def num_targets(self, step: int) -> int:
        """Targets of the whole global batch: what its summed loss is divided by."""
        return sum(self.targets_by_source(step))

    def targets_by_source(self, step: int) -> list[int]:
        """Of these, how many each source gives."""
        counts = [0] * len(self.pools)
        for rows, pool, sequences in self._by_pool(self.sequence_ids(step)):
            if self.corruption is None:
                counts[pool] = self.pools[pool].num_targets(sequences)
                continue
            places = self._places(step, first=0, count=self.per_step)[rows]
            counts[pool] = int(self.corruption.num_targets(self.pools[pool].batch(sequences), places).sum())
        return counts

    def spans(self, sequence_id: int) -> tuple[int, list[Span]]:
        """The source of a sequence, and what it is made of there."""
        sequence, pool = divmod(sequence_id, len(self.pools))
        return pool, self.pools[pool].spans(sequence)

    def document_names(self, step: int, *, limit: int, places: range | None = None) -> list[str]:
        """Up to `limit` ids of documents or examples at `places` of the global batch (None: all), for a report."""
        ids = self.sequence_ids(step)[places.start : places.stop] if places else self.sequence_ids(step)
        found = (self.spans(sequence) for sequence in ids.tolist())
        names = (self.pools[pool].shards.row_name(span.row) for pool, spans in found for span in spans)
        return list(islice(names, limit))

    def _ids(self, step: int, *, first: int, count: int) -> Ints:
        assert min(first, count) >= 0, f"places [{first}, {first + count})"
        assert first + count <= self.per_step, (
            f"places [{first}, {first + count}) of a global batch of {self.per_step}: "
            "world_size * micro_batch_size * micro-steps must be the global batch"
        )
        begin = step * self.per_step
        if self.mixture is None:
            num_items = self._num_items(0, last=begin + self.per_step - 1)
            drawn = draw(begin, count=self.per_step, num_items=num_items, seed=self.seed, window=self.window)
            return drawn[first : first + count]
        sources, places = self.mixture.draw(begin + first, count=count)
        ids = np.empty_like(places)
        for source in np.unique(sources).tolist():
            here = sources == source
            num_items = self._num_items(source, last=int(places[here].max()))
            found = items_at(
                places[here], num_items=num_items, seed=self.seed, stream=str(source), window=self.window
            )
            ids[here] = found * len(self.pools) + source
        return ids

    def _places(self, step: int, *, first: int, count: int) -> Ints:
        """The numbers in the endless order of these places of a global batch, [count]."""
        return step * self.per_step + first + np.arange(count, dtype=np.int64)

    def _num_items(self, source: int, *, last: int) -> int:
        """Sequences of a source, all of them or enough that place `last` of its order is settled: its whole window."""
        pool = self.pools[source]
        if self.window:
            pool.reach((last // self.window + 1) * self.window)
        return pool.num_sequences

    def _by_pool(self, ids: Ints) -> list[tuple[Ints, int, Ints]]:
        """Which rows of a batch a pool gives, and with which of its sequences; for each pool that gives any."""
        sequences, pool_of = np.divmod(ids, len(self.pools))
        found = [(np.flatnonzero(pool_of == pool), pool) for pool in np.unique(pool_of).tolist()]
        return [(rows, pool, sequences[rows]) for rows, pool in found]


def _joined(parts: list[tuple[Ints, Batch]]) -> Batch:
    """One batch out of those of several pools."""
    return {name: _scattered([(rows, part[name]) for rows, part in parts], name) for name in parts[0][1]}


def _scattered(parts: list[tuple[Ints, NDArray[np.int64]]], name: str) -> NDArray[np.int64]:
    """Rows put where they belong: [B, T] out of pairs of rows [n] and content [n, T or less], filled on the right.

    Or [B] out of content [n].
    """
    if parts[0][1].ndim == 1:
        order = np.concatenate([rows for rows, _ in parts]).argsort()
        return np.concatenate([content for _, content in parts])[order]
    width = max(content.shape[1] for _, content in parts)
    fill = IGNORED if name == "labels" else 0
    whole = np.full((sum(len(rows) for rows, _ in parts), width), fill, dtype=np.int64)
    for rows, content in parts:
        whole[rows, : content.shape[1]] = content
    return whole
