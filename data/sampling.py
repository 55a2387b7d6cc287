"""A sample of a corpus: a stream of texts, chosen by a hash of each document's id, in the corpus's order.

Whether a document is in it depends on its id, its group and the sizes of the groups alone: the same corpus gives the
same sample, however it lies in shards, and no more than a record batch is in memory.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from data.errors import Problem

SOURCE = "source"


@dataclass
class SampleRules:
    """Which documents are looked at."""

    max_bytes: int | None = None
    "Bytes of text, about; > 0. None: all. What learning holds in memory grows with it."
    by: str = ""
    "What groups documents: source (its first folder), or a field of their metadata. Empty: they are one group."
    weights: dict[str, float] = field(default_factory=dict)
    "By group, how much of it against the others; >= 0, and 1 where it is not named. Above 1 nothing is seen twice."

    def problems(self) -> list[Problem]:
        found = []
        if self.max_bytes is not None and self.max_bytes <= 0:
            found.append(Problem("max_bytes", f"{self.max_bytes}", "a number above 0, or null"))
        if any(weight < 0 for weight in self.weights.values()):
            found.append(Problem("weights", "a weight is below 0", "0 or more; 0 leaves a group out"))
        if self.weights and not self.by:
            found.append(
                Problem("by", "there are weights, and nothing to group by", "source, or a metadata field")
            )
        return found

    @property
    def is_everything(self) -> bool:
        return self.max_bytes is None and not any(weight < 1 for weight in self.weights.values())


def group_bytes(batches: Iterable[pa.RecordBatch], *, by: str) -> Counter[str]:
    """UTF-8 bytes of text in each group."""
    sizes: Counter[str] = Counter()
    for batch in batches:
        lengths = pc.binary_length(batch.column("text")).to_pylist()
        for group, length in zip(groups_of(batch, by=by), lengths, strict=True):
            sizes[group] += length
    return sizes


def fractions(sizes: Counter[str], *, rules: SampleRules) -> dict[str, float]:
    """The fraction of each group that is taken: by its weight, and all together about `max_bytes`."""
    weighted = {group: size * rules.weights.get(group, 1.0) for group, size in sizes.items()}
    if rules.max_bytes is None:
        scale = 1.0
    else:
        scale = min(1.0, rules.max_bytes / total) if (total := sum(weighted.values())) else 0.0
    return {group: min(1.0, scale * rules.weights.get(group, 1.0)) for group in sizes}


def sampled(
    batches: Iterable[pa.RecordBatch], *, by: str, taken: dict[str, float]
) -> Iterator[pa.RecordBatch]:
    """The documents that are in the sample, as batches of what each batch holds of them."""
    for batch in batches:
        ids, groups = batch.column("id").to_pylist(), groups_of(batch, by=by)
        rows = [
            row
            for row, (id_, group) in enumerate(zip(ids, groups, strict=True))
            if _place(id_) < taken[group]
        ]
        yield batch if len(rows) == batch.num_rows else batch.take(pa.array(rows, pa.int64()))


def groups_of(batch: pa.RecordBatch, *, by: str) -> list[str]:
    """The group of each document of a batch; "" where documents have none."""
    if not by:
        return [""] * batch.num_rows
    if by == SOURCE:
        return [source.partition("/")[0] for source in batch.column("source").to_pylist()]
    return [
        str(json.loads(metadata).get(by, "")) if metadata else ""
        for metadata in batch.column("metadata").to_pylist()
    ]


def _place(document_id: str) -> float:
    """A number in [0, 1) by which documents fall in or out."""
    digest = hashlib.blake2b(document_id.encode(), digest_size=8, person=b"headrace sample").digest()
    return int.from_bytes(digest, "little") / 2**64
