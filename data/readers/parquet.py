"""Reading Parquet rows into documents, a small record batch in memory at a time."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from data.documents import Document
from data.readers.columns import batch_documents, wanted_columns
from data.readers.compression import FREE_BYTES
from data.readers.extent import Extent
from data.reading import ReadRules, Reason, Unreadable

ROWS_AT_ONCE = 256
BYTES_AT_ONCE = 64 << 20
"Of decoded rows; fewer rows are read at once where they are long."


def read_parquet(
    stream: BinaryIO, name: str, rules: ReadRules, extent: Extent
) -> Iterator[Document | Unreadable]:
    """A document per row. A row group that breaks costs its remaining rows, counted; the next one is read."""
    try:
        file = pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        yield Unreadable(name, extent.first_row, Reason.CORRUPT_PARQUET, str(error))
        return
    first, end = extent.first_row, file.num_row_groups if extent.end is None else extent.end
    for group in range(extent.begin, end):
        yield from _read_group(file, group, first, name, rules)
        first += file.metadata.row_group(group).num_rows


def _read_group(
    file: pq.ParquetFile, group: int, first: int, name: str, rules: ReadRules
) -> Iterator[Document | Unreadable]:
    """Exactly as many outcomes as the footer counts rows."""
    row, end = first, first + file.metadata.row_group(group).num_rows
    reason, detail = Reason.CORRUPT_PARQUET, "fewer rows than the footer says"
    if inflates := _inflation(file.metadata.row_group(group), rules):
        reason, detail = Reason.INFLATES, inflates
    else:
        columns = wanted_columns(file.schema_arrow, rules)
        try:
            for batch in file.iter_batches(_rows_at_once(file, group), row_groups=[group], columns=columns):
                yield from batch_documents(batch.slice(0, end - row), name, row, rules)
                row = min(row + batch.num_rows, end)
        except (pa.ArrowException, OSError) as error:
            detail = str(error)
    if row < end:
        yield Unreadable(name, row, reason, detail, num_rows=end - row)


def group_bytes(group: pq.RowGroupMetaData) -> int:
    """Bytes of a row group as it lies in the file."""
    return sum(group.column(place).total_compressed_size for place in range(group.num_columns))


def _inflation(group: pq.RowGroupMetaData, rules: ReadRules) -> str:
    """Why a row group is too much to unpack, or nothing."""
    if group.total_byte_size <= max(FREE_BYTES, rules.max_inflation * group_bytes(group)):
        return ""
    return (
        f"a row group inflates to more than {rules.max_inflation} times its own bytes (rules.max_inflation)"
    )


def _rows_at_once(file: pq.ParquetFile, group: int) -> int:
    facts = file.metadata.row_group(group)
    return max(1, min(ROWS_AT_ONCE, int(BYTES_AT_ONCE * facts.num_rows / max(1, facts.total_byte_size))))
