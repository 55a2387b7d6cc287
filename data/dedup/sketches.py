"""What finding duplicates needs to know of a shard, in two files: its documents' sketches, and their keys by band.

A document has a number over the whole corpus: shard << 32 | row. Sketches have one row per document in order. Keys
come for each record batch of documents as one batch per band, sorted by key, so that a reader of one band passes over
the others; band 0 is of exact duplicates, the rest are MinHash bands. No more than a record batch is in memory.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.dedup.exact import DedupRules, hash_texts
from data.dedup.near import EMPTY, NearRules, band_keys, estimated_similarity, signatures
from data.hashing import Hashes
from data.ipc import Place, batches_of, open_batches

Numbers = NDArray[np.uint64]  # of documents
Masks = NDArray[np.bool_]

ROW_BITS = np.uint64(32)
ROW_MASK = np.uint64(2**32 - 1)
EXACT_BAND = 0

KEY_SCHEMA = pa.schema([("key", pa.uint64()), ("text", pa.uint64()), ("row", pa.uint32())])
"""`key` and `text` are the two words of the text's hash in band 0; after it the band's hash, and the text's first."""


def sketch_schema(near: NearRules | None) -> pa.Schema:
    """Of the sketches; `signature` is there when near duplicates are looked for."""
    columns = [("id", pa.string()), ("length", pa.int64()), ("text", pa.binary(16))]
    if near is not None:
        columns.append(("signature", pa.binary(8 * near.num_permutations)))
    return pa.schema(columns)


def write_sketches(
    batches: Iterable[pa.RecordBatch],
    sketches: BinaryIO,
    keys: BinaryIO,
    *,
    rules: DedupRules,
    near: NearRules | None,
) -> int:
    """Sketch a shard's documents, given as its record batches; returns how many there are."""
    num_documents = 0
    schema = sketch_schema(near)
    with pa.ipc.new_file(sketches, schema) as sketch_writer, pa.ipc.new_file(keys, KEY_SCHEMA) as key_writer:
        for batch in batches:
            texts = batch.column("text").to_pylist()
            hashes = hash_texts(texts, rules=rules)
            columns = [
                batch.column("id"),
                pc.utf8_length(batch.column("text")).cast(pa.int64()),
                _binary(hashes),
            ]
            rows = np.arange(num_documents, num_documents + len(texts), dtype=np.uint32)
            key_writer.write_batch(_sorted_keys(hashes[:, 0], hashes[:, 1], rows))
            if near is not None:
                found = signatures(texts, rules=near)
                columns.append(_binary(found))
                has_words = found[:, 0] != EMPTY
                for band in band_keys(found, rules=near).T:
                    key_writer.write_batch(
                        _sorted_keys(band[has_words], hashes[has_words, 0], rows[has_words])
                    )
            sketch_writer.write_batch(pa.record_batch(columns, schema=schema))
            num_documents += len(texts)
    return num_documents


def read_keys(
    place: Place, *, band: int, num_bands: int, part: int, num_part_bits: int
) -> tuple[Hashes, Hashes, NDArray[np.uint32]]:
    """The keys of a band that begin with the `num_part_bits` bits of `part`: key, text and row, [N] each."""
    reader = open_batches(place, kind="keys of documents")
    shift = np.uint64(64 - num_part_bits)
    found = [[np.zeros(0, kind.to_pandas_dtype())] for kind in KEY_SCHEMA.types]
    for index in range(band, reader.num_record_batches, num_bands):
        columns = [column.to_numpy() for column in reader.get_batch(index).columns]
        bounds = slice(None)
        if num_part_bits:
            low, high = np.searchsorted(columns[0] >> shift, np.array([part, part + 1], np.uint64))
            bounds = slice(int(low), int(high))
        for gathered, column in zip(found, columns, strict=True):
            gathered.append(column[bounds])
    key, text, row = (np.concatenate(gathered) for gathered in found)
    return key, text, row


class Sketches:
    """The sketches of a corpus by document number; `opening` gives the file of a shard, by the shard's place."""

    def __init__(self, opening: Callable[[int], Any]) -> None:
        self._opening = opening

    def take(self, documents: Numbers, columns: list[str]) -> pa.Table:
        """The sketches of `documents`, in any order and with repeats; a batch of each shard in memory at a time."""
        order = np.argsort(documents, kind="stable")
        in_order = documents[order]
        shards, starts = np.unique(in_order >> ROW_BITS, return_index=True)
        pieces = [self._of_shard(0, in_order[:0], columns)]  # no rows, but the columns
        for shard, rows in zip(shards, np.split(in_order & ROW_MASK, starts)[1:], strict=True):
            pieces.append(self._of_shard(int(shard), rows, columns))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return pa.concat_tables(pieces).take(back)

    def similarity(self, one: Numbers, other: Numbers) -> NDArray[np.float32]:
        """Estimated Jaccard similarity of pairs of documents, [num_pairs]."""
        return estimated_similarity(self.signatures(one), self.signatures(other))

    def signatures(self, documents: Numbers) -> Hashes:
        return _unpacked(self.take(documents, ["signature"]).column("signature"))

    def _of_shard(self, shard: int, rows: Numbers, columns: list[str]) -> pa.Table:
        with self._opening(shard) as source:
            reader = open_batches(source, kind="sketches of documents")
            schema = pa.schema([reader.schema.field(name) for name in columns])
            return pa.Table.from_batches(_taken(reader, rows.astype(np.int64), columns), schema=schema)


def _taken(
    reader: pa.RecordBatchFileReader, rows: NDArray[np.int64], columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """Copies of the rows, which ascend, out of a file's batches."""
    first = 0
    for batch in batches_of(reader):
        if not len(rows) or first > rows[-1]:
            return
        low, high = np.searchsorted(rows, [first, first + batch.num_rows])
        if high > low:
            yield batch.select(columns).take(pa.array(rows[low:high] - first))
        first += batch.num_rows


def _sorted_keys(key: Hashes, text: Hashes, row: NDArray[np.uint32]) -> pa.RecordBatch:
    order = np.argsort(key, kind="stable")
    return pa.record_batch([pa.array(column[order]) for column in (key, text, row)], schema=KEY_SCHEMA)


def _binary(values: Hashes) -> pa.Array:
    """Rows of 64-bit numbers as little-endian bytes of a fixed length."""
    width = 8 * values.shape[1]
    return pa.Array.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(np.ascontiguousarray(values, "<u8"))]
    )


def _unpacked(column: pa.ChunkedArray) -> Hashes:
    array = column.combine_chunks()
    width = array.type.byte_width // 8
    flat = np.frombuffer(array.buffers()[1], "<u8", offset=array.offset * array.type.byte_width)
    return flat[: len(array) * width].reshape(-1, width)
