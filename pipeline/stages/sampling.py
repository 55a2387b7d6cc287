"""A sample of the documents of one node or of several, read from their shards."""

from collections.abc import Iterator, Sequence
from typing import Any

from data.documents import document_batches
from data.sampling import SampleRules, fractions, group_bytes, sampled
from pipeline.stages.sharding import Shard


class Sampled:
    """The documents of a sample of some shards, a record batch in memory at a time; can be gone through again."""

    def __init__(self, shards: Sequence[Shard], rules: SampleRules) -> None:
        self.num_bytes = 0  # of text, in the last time through the texts
        self._shards = shards
        if rules.is_everything:
            self._by, self._taken = "", {"": 1.0}
        else:
            self._by = rules.by
            self._taken = fractions(group_bytes(self._all(), by=rules.by), rules=rules)

    def __iter__(self) -> Iterator[str]:
        """The texts."""
        self.num_bytes = 0
        for batch in self.batches():
            for text in batch.column("text").to_pylist():
                self.num_bytes += len(text.encode())
                yield text

    def batches(self) -> Iterator[Any]:
        return sampled(self._all(), by=self._by, taken=self._taken)

    def _all(self) -> Iterator[Any]:
        for folder, name in self._shards:
            with folder.opening(name) as source:
                yield from document_batches(source)
