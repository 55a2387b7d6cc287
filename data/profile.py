"""What a shard of documents, examples or tokens is like: how many rows, how long, from where. Profiles add up."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STEPS_PER_DOUBLING = 4
"Length buckets: bucket b holds lengths from 2 ** (b / 4) on, so that a quantile is at most a fifth off."
EMPTY_BUCKET = -1
LENGTH_UNITS = {"documents": "characters", "examples": "characters", "tokens": "tokens"}


@dataclass
class Profile:
    """Counts over rows; exact but for the lengths, which are kept in buckets."""

    num_rows: int = 0
    total_length: int = 0
    "Characters of text, or tokens."
    buckets: Counter[int] = field(default_factory=Counter)
    "Rows by bucket of their length."
    sources: Counter[str] = field(default_factory=Counter)
    "Length by group of sources: the first folder, or the suffix of a file in no folder."

    def add(self, batch: pa.RecordBatch, *, kind: str) -> None:
        """Count the rows of a record batch of `kind`: documents, examples or tokens."""
        lengths = _lengths(batch, kind)
        self.num_rows += batch.num_rows
        self.total_length += int(lengths.sum())
        numbers, counts = np.unique(_bucket_of(lengths), return_counts=True)
        self.buckets.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        table = pa.table({"source": batch.column("source"), "length": lengths})
        for row in table.group_by("source").aggregate([("length", "sum")]).to_pylist():
            self.sources[source_group(row["source"])] += row["length_sum"]

    def quantile(self, fraction: float) -> int:
        """About the length below which this fraction of the rows lies; 0 without rows."""
        wanted, seen = fraction * self.num_rows, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return bucket_start(bucket)
        return 0

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.num_rows,
            "length": self.total_length,
            "buckets": sorted(self.buckets.items()),
            "sources": sorted(self.sources.items()),
        }

    @staticmethod
    def merged(parts: Iterable[dict[str, Any]]) -> "Profile":
        """The sum of what `to_json` gave."""
        whole = Profile()
        for part in parts:
            whole.num_rows += part["rows"]
            whole.total_length += part["length"]
            whole.buckets.update(dict(part["buckets"]))
            whole.sources.update(dict(part["sources"]))
        return whole


def source_group(source: str) -> str:
    """`json/decoder.py` → `json/`, `notes.txt` → `*.txt`, `README` → `README`."""
    path = PurePosixPath(source)
    if len(path.parts) > 1:
        return f"{path.parts[0]}/"
    return f"*{path.suffix}" if path.suffix else source


def bucket_start(bucket: int) -> int:
    """The smallest length that falls into a bucket."""
    return 0 if bucket == EMPTY_BUCKET else math.ceil(2 ** (bucket / STEPS_PER_DOUBLING))


def _bucket_of(lengths: "np.ndarray[Any, np.dtype[np.int64]]") -> "np.ndarray[Any, np.dtype[np.int64]]":
    found = np.floor(np.log2(np.maximum(lengths, 1)) * STEPS_PER_DOUBLING + 1e-9).astype(np.int64)
    return np.where(lengths > 0, found, EMPTY_BUCKET)


def _lengths(batch: pa.RecordBatch, kind: str) -> "np.ndarray[Any, np.dtype[np.int64]]":
    if kind == "tokens":
        found = pc.list_value_length(batch.column("input_ids"))
    elif kind == "examples":
        found = pc.add(pc.utf8_length(batch.column("prompt")), pc.utf8_length(batch.column("response")))
    else:
        found = pc.utf8_length(batch.column("text"))
    lengths: np.ndarray[Any, np.dtype[np.int64]] = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths
