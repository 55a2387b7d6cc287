"""Reading Parquet rows into documents, a small record batch in memory at a time."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from data.documents import Document
from data.reading import ReadRules, Reason, Unreadable, row_document

ROWS_AT_ONCE = 256


def read_parquet(stream: BinaryIO, *, name: str, rules: ReadRules) -> Iterator[Document | Unreadable]:
    """A document per row. A row group that breaks costs its remaining rows, counted; the next one is read."""
    try:
        file = pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        yield Unreadable(name, 0, Reason.CORRUPT_PARQUET, str(error))
        return
    first = 0
    for group in range(file.num_row_groups):
        num_rows = file.metadata.row_group(group).num_rows
        row = first
        try:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[group]):
                yield from _batch_documents(batch, name, row, rules)
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            lost = first + num_rows - row
            yield Unreadable(name, row, Reason.CORRUPT_PARQUET, str(error), num_rows=lost)
        first += num_rows


def _batch_documents(
    batch: pa.RecordBatch, name: str, first: int, rules: ReadRules
) -> Iterator[Document | Unreadable]:
    for place in range(batch.num_rows):
        row = first + place
        try:
            fields = {
                column: values[place].as_py()
                for column, values in zip(batch.schema.names, batch, strict=True)
            }
        except UnicodeDecodeError as error:  # Parquet does not check its strings
            yield Unreadable(name, row, Reason.INVALID_UTF8, str(error))
            continue
        if rules.text_field in fields and fields[rules.text_field] is None:
            yield Unreadable(name, row, Reason.MISSING_FIELD, f"{rules.text_field!r} is null")
            continue
        yield row_document(fields, source=name, row=row, rules=rules)
