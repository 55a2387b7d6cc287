"""Rows of separated values: a header, then a document per row.

RFC 4180, with tabs in place of commas for tsv. A file is read whole by one task: whether a line end lies within quotes
is known only from the beginning, so that no byte range can be read by itself.
"""

import csv
from collections.abc import Iterator
from typing import BinaryIO

from data.documents import Document
from data.readers.extent import WHOLE
from data.readers.lines import damage, lines_of
from data.reading import DamagedError, ReadRules, Reason, Unreadable, row_document, too_large

DELIMITERS = {"csv": ",", "tsv": "\t"}


def read_separated(
    stream: BinaryIO, name: str, rules: ReadRules, *, delimiter: str
) -> Iterator[Document | Unreadable]:
    """A document per row, numbered from 0 behind the header; all fields are strings."""
    rows = _rows(stream, name, rules, delimiter)
    header = next(rows, None)
    if not isinstance(header, list):
        empty = Unreadable(name, 0, Reason.EMPTY, "no header")
        yield header or empty
        return
    if len(set(header)) < len(header):
        twice = sorted({column for column in header if header.count(column) > 1})
        yield Unreadable(name, 0, Reason.BAD_CSV, f"two columns of one name: {', '.join(twice)}")
        return
    for row, values in enumerate(rows):
        yield _outcome(values, header, name, row, rules)


def _outcome(
    values: list[str] | Unreadable, header: list[str], name: str, row: int, rules: ReadRules
) -> Document | Unreadable:
    if isinstance(values, Unreadable):
        return Unreadable(name, row, values.reason, values.detail)
    if len(values) != len(header):
        detail = f"{len(values)} fields under a header of {len(header)}"
        return Unreadable(name, row, Reason.RAGGED_ROW, detail)
    return row_document(dict(zip(header, values, strict=True)), source=name, row=row, rules=rules)


def _rows(stream: BinaryIO, name: str, rules: ReadRules, delimiter: str) -> Iterator[list[str] | Unreadable]:
    """Each row's fields, or what the row is instead; blank lines between rows are none."""
    csv.field_size_limit(rules.max_document_bytes)
    lines = _Lines(stream, name, rules)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            large = str(error).startswith("field larger")
            yield too_large(name, 0, rules) if large else Unreadable(name, 0, Reason.BAD_CSV, str(error))
            continue
        except DamagedError as error:
            yield damage(error, name, 0)
            continue
        if values:
            yield values


class _Lines:
    """The lines of a file as text, for `csv` to pull; one that cannot be had is raised, and the next one follows.

    Bytes that are no UTF-8 become lone surrogates, which cost the row that they stand in and no other.
    """

    def __init__(self, stream: BinaryIO, name: str, rules: ReadRules) -> None:
        self._lines = lines_of(stream, name, rules, WHOLE)
        self._encoding = "utf-8-sig"

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        _, line = next(self._lines)
        if isinstance(line, Unreadable):
            raise DamagedError(line.reason, line.detail)
        text = line.decode(self._encoding, "surrogateescape")
        self._encoding = "utf-8"
        return text
