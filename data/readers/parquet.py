"""Reading Parquet rows into documents, a small record batch in memory at a time."""

import io
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from data.documents import Document
from data.readers.columns import BROKEN, ROWS_AT_ONCE, batch_documents, check_names, wanted_columns
from data.readers.compression import inflation
from data.readers.extent import Extent
from data.reading import ReadRules, Reason, Unreadable

BYTES_AT_ONCE = 64 << 20
"Of decoded rows; fewer rows are read at once where they are long."


def read_parquet(
    stream: BinaryIO, name: str, rules: ReadRules, extent: Extent
) -> Iterator[Document | Unreadable]:
    """A document per row. A row group that breaks costs its remaining rows, counted; the next one is read."""
    try:
        file = open_parquet(stream)
    except BROKEN as error:
        yield Unreadable(name, extent.first_row, Reason.CORRUPT_PARQUET, str(error))
        return
    num_bytes = stream.seek(0, io.SEEK_END)
    first, end = extent.first_row, file.num_row_groups if extent.end is None else extent.end
    for group in range(extent.begin, end):
        yield from _read_group(file, group, first, num_bytes, name, rules)
        first += file.metadata.row_group(group).num_rows


def open_parquet(stream: BinaryIO) -> pq.ParquetFile:
    """Raises one of `BROKEN` where it is none."""
    try:
        file = pq.ParquetFile(stream, page_checksum_verification=True)  # of pages that have one
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"the name of a column is no UTF-8: {error}") from error
    check_names(file.schema_arrow)
    facts = file.metadata
    num_rows = sum(facts.row_group(group).num_rows for group in range(facts.num_row_groups))
    if num_rows != facts.num_rows:
        raise pa.ArrowInvalid(f"the footer counts {facts.num_rows} rows, and {num_rows} in its row groups")
    return file


def _read_group(
    file: pq.ParquetFile, group: int, first: int, num_bytes: int, name: str, rules: ReadRules
) -> Iterator[Document | Unreadable]:
    """At least as many outcomes as the footer counts rows."""
    row, end = first, first + file.metadata.row_group(group).num_rows
    reason, detail = Reason.CORRUPT_PARQUET, "fewer rows than the footer says"
    # the row group's own bytes: a damaged footer ends the process where those of a column are asked for
    unpacked = file.metadata.row_group(group).total_byte_size
    if inflates := inflation(unpacked, num_bytes, rules, unit="row group"):
        reason, detail = Reason.INFLATES, inflates
    else:
        columns = wanted_columns(file.schema_arrow, rules)
        try:
            for batch in file.iter_batches(_rows_at_once(file, group), row_groups=[group], columns=columns):
                yield from batch_documents(batch, name, row, rules)
                row += batch.num_rows
        except BROKEN as error:
            detail = str(error)
    if row < end:
        yield Unreadable(name, row, reason, detail, num_rows=end - row)


def _rows_at_once(file: pq.ParquetFile, group: int) -> int:
    facts = file.metadata.row_group(group)
    return max(1, min(ROWS_AT_ONCE, int(BYTES_AT_ONCE * facts.num_rows / max(1, facts.total_byte_size))))
