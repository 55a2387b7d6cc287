"""Documents: one text each, with the id and place it came from; stored as Arrow IPC files."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import pyarrow as pa

from data.ipc import BatchWriter, Place, batches_of, check_columns, open_batches

DOCUMENT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("metadata", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus."""

    id: str
    "Stable name: of the file for a text file, `file#row` for a row of a file, or the row's own id field."
    text: str
    "The text; valid Unicode without lone surrogates."
    source: str
    "Path of the file it was read from, relative to the corpus's root."
    row: int = 0
    "Row or line within the source, from 0."
    metadata: str = ""
    "JSON object of the row's other fields, or nothing."


class DocumentWriter:
    """Writes documents to one file, a record batch in memory at a time; the same documents give the same bytes."""

    def __init__(self, place: Place) -> None:
        self.num_bytes = 0  # UTF-8 bytes of text written
        self._writer = BatchWriter(place, schema=DOCUMENT_SCHEMA, to_arrays=_to_arrays)

    @property
    def num_rows(self) -> int:
        return self._writer.num_rows

    def write(self, document: Document) -> None:
        num_bytes = len(document.text.encode())
        self.num_bytes += num_bytes
        self._writer.write(document, num_bytes=num_bytes + len(document.metadata) + 64)

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def _to_arrays(documents: list[Document]) -> list[pa.Array]:
    return [
        pa.array([getattr(document, field.name) for document in documents], field.type)
        for field in DOCUMENT_SCHEMA
    ]


def read_documents(place: Place) -> Iterator[Document]:
    """The documents of one file in order, a record batch in memory at a time; a local path is memory-mapped.

    Raises `DataError` where `place` is not a whole file of documents.
    """
    for batch in document_batches(place):
        columns = [column.to_pylist() for column in batch.columns]
        for fields in zip(*columns, strict=True):
            yield Document(*fields)


def document_batches(place: Place) -> Iterator[pa.RecordBatch]:
    """The record batches of one file, for work that does not need every column as Python objects."""
    return batches_of(open_documents(place))


def open_documents(place: Place) -> pa.RecordBatchFileReader:
    """A random-access reader of the record batches of one file."""
    reader = open_batches(place, kind="documents")
    check_columns(reader, schema=DOCUMENT_SCHEMA, kind="documents", place=place)
    return reader


def count_documents(place: Place) -> int:
    """How many documents a file holds, without reading their texts."""
    return sum(batch.num_rows for batch in document_batches(place))
