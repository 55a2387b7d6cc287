"""How alike documents are by their sketches: which pairs count, and the list of those that have a duplicate."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data.dedup.clusters import Pairs
from data.dedup.sketches import Numbers, Sketches

PAIRS_AT_ONCE = 1 << 14  # whose signatures are in memory together

CLUSTER_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("cluster", pa.string()),
        ("stays", pa.bool_()),
        ("kind", pa.string()),
        ("similarity", pa.float32()),
    ]
)
"""`cluster` is the id of the document that stays; `kind` and `similarity` are to that one."""


def alike(sketches: Sketches, pairs: Pairs, *, min_similarity: float) -> Pairs:
    """The pairs whose estimated similarity is enough; all where 0 is, and then nothing is read."""
    if not min_similarity:
        return pairs
    enough = [sketches.similarity(*piece.T) >= np.float32(min_similarity) for piece in _pieces(pairs)]
    return pairs[np.concatenate(enough)] if enough else pairs


def list_clusters(sketches: Sketches, clusters: Pairs, *, has_signatures: bool) -> pa.Table:
    """A row for each document that has a duplicate, given with the one of its cluster that stays, [D, 2]."""
    pieces = [_rows(sketches, *piece.T, has_signatures=has_signatures) for piece in _pieces(clusters)]
    return pa.Table.from_batches(pieces, schema=CLUSTER_SCHEMA)


def _rows(sketches: Sketches, documents: Numbers, kept: Numbers, *, has_signatures: bool) -> pa.RecordBatch:
    own, other = (sketches.take(numbers, ["id", "text"]) for numbers in (documents, kept))
    same = np.array([one == its for one, its in zip(own["text"], other["text"], strict=True)], np.bool_)
    similarity = np.ones(len(same), np.float32)
    if has_signatures and not same.all():
        similarity[~same] = sketches.similarity(documents[~same], kept[~same])
    columns = [
        own["id"].combine_chunks(),
        other["id"].combine_chunks(),
        pa.array(documents == kept),
        pa.array(np.where(same, "exact", "near"), pa.string()),
        pa.array(similarity),
    ]
    return pa.record_batch(columns, schema=CLUSTER_SCHEMA)


def _pieces(pairs: Pairs) -> Iterator[Pairs]:
    return (pairs[low : low + PAIRS_AT_ONCE] for low in range(0, len(pairs), PAIRS_AT_ONCE))
