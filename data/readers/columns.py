"""Record batches as documents: what Parquet and Arrow share."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from data.documents import Document
from data.reading import ReadRules, Reason, Unreadable, row_document

ROWS_AT_ONCE = 256
BROKEN = (pa.ArrowException, OSError, EOFError, MemoryError)
"What a damaged file raises; the last where it claims to have more bytes than a machine."

NO_VALUE = (ValueError, ArithmeticError)
"What a value raises that Python cannot hold."


def check_names(schema: pa.Schema) -> None:
    """Raise `ArrowInvalid` where the name of a column is no text, as in a damaged file."""
    try:
        schema.names  # noqa: B018 - decodes them
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"the name of a column is no UTF-8: {error}") from error


def wanted_columns(schema: pa.Schema, rules: ReadRules) -> list[str] | None:
    """The columns that become documents; None: all of them."""
    needed = [name for name in (rules.text_field, rules.id_field) if name]
    if not set(needed) <= set(schema.names):  # all of them are named in the outcomes
        return None
    wanted = [name for name in schema.names if name in needed or rules.keeps(name)]
    return None if wanted == schema.names else wanted


def batch_documents(
    batch: pa.RecordBatch, name: str, first: int, rules: ReadRules
) -> Iterator[Document | Unreadable]:
    """An outcome per row, numbered from `first`; few rows at once are Python objects."""
    for begin in range(0, batch.num_rows, ROWS_AT_ONCE):
        yield from _slice_documents(batch.slice(begin, ROWS_AT_ONCE), name, first + begin, rules)


def _slice_documents(
    batch: pa.RecordBatch, name: str, first: int, rules: ReadRules
) -> Iterator[Document | Unreadable]:
    names = batch.schema.names
    rows: Iterator[dict[str, Any] | Exception]
    try:
        columns = [column.to_pylist() for column in batch.columns]
        places = zip(*columns, strict=True) if columns else [()] * batch.num_rows
        rows = (dict(zip(names, values, strict=True)) for values in places)
    except NO_VALUE:  # some value is none: row by row
        rows = (_fields(batch, place) for place in range(batch.num_rows))
    for place, fields in enumerate(rows):
        yield _outcome(fields, name, first + place, rules)


def _outcome(
    fields: dict[str, Any] | Exception, name: str, row: int, rules: ReadRules
) -> Document | Unreadable:
    if isinstance(fields, UnicodeDecodeError):
        return Unreadable(name, row, Reason.INVALID_UTF8, str(fields))
    if isinstance(fields, Exception):
        return Unreadable(name, row, Reason.WRONG_TYPE, str(fields))
    if rules.text_field in fields and fields[rules.text_field] is None:
        return Unreadable(name, row, Reason.MISSING_FIELD, f"{rules.text_field!r} is null")
    return row_document(fields, source=name, row=row, rules=rules)


def _fields(batch: pa.RecordBatch, place: int) -> dict[str, Any] | Exception:
    """A row's values, or why they have none in Python: no UTF-8, a date beyond its calendar, a decimal that is none."""
    try:
        return {
            column: values[place].as_py() for column, values in zip(batch.schema.names, batch, strict=True)
        }
    except NO_VALUE as error:
        return error
