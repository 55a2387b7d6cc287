"""Rows of separated values: a header, then a document per row.

RFC 4180, with tabs in place of commas for tsv. A file is read whole by one task: whether a line end lies within quotes
is known only from the beginning, so that no byte range can be read by itself. Blocks that are well formed are parsed
at once; the rest row by row, strictly, so that each row that is none costs itself alone and has its reason.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

from data.documents import Document
from data.readers.blocks import BLOCK_BYTES, Window, parsed, whole_rows
from data.readers.extent import WHOLE
from data.readers.lines import damage, lines_of
from data.reading import DamagedError, ReadRules, Reason, Unreadable, string_rows, too_large

DELIMITERS = {"csv": ",", "tsv": "\t"}

Fields = Sequence[str]


def read_separated(
    stream: BinaryIO, name: str, rules: ReadRules, *, delimiter: str
) -> Iterator[Document | Unreadable]:
    """A document per row, numbered from 0 behind the header; all fields are strings."""
    window = Window(stream)
    strictly = _strict_rows(window, name, rules, delimiter)
    header = next(strictly, None)
    if not isinstance(header, list):
        empty = Unreadable(name, 0, Reason.EMPTY, "no header")
        yield header or empty
        return
    if len(set(header)) < len(header):
        twice = sorted({column for column in header if header.count(column) > 1})
        yield Unreadable(name, 0, Reason.BAD_CSV, f"two columns of one name: {', '.join(twice)}")
        return
    document = string_rows(header, source=name, rules=rules)
    is_limited = rules.max_document_bytes < BLOCK_BYTES  # so that a row may be too large within a block
    rows = strictly if is_limited else _rows(window, strictly, delimiter)
    for row, values in enumerate(rows):
        if isinstance(values, Unreadable):
            yield Unreadable(name, row, values.reason, values.detail)
        elif len(values) != len(header):
            detail = f"{len(values)} fields under a header of {len(header)}"
            yield Unreadable(name, row, Reason.RAGGED_ROW, detail)
        else:
            yield document(values, row)


def _rows(
    window: Window, strictly: Iterator[Fields | Unreadable], delimiter: str
) -> Iterator[Fields | Unreadable]:
    """The rows behind the header, a block at a time where that can be; `strictly` gives those of `window`, too."""
    while ahead := window.ahead():
        end = whole_rows(ahead, is_last=window.is_last())
        rows = parsed(ahead[:end], delimiter=delimiter) if end else None
        if rows is not None:
            window.consume(end)
            yield from rows
            continue
        until = window.position + (end or len(ahead))
        for row in strictly:
            yield row
            if window.position >= until:
                break
        else:
            return
    yield from strictly  # how the stream broke, if it did


def _strict_rows(
    window: Window, name: str, rules: ReadRules, delimiter: str
) -> Iterator[list[str] | Unreadable]:
    """Each row's fields, or what the row is instead; blank lines between rows are none."""
    csv.field_size_limit(rules.max_document_bytes)
    lines = _Lines(window, name, rules)
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

    def __init__(self, window: Window, name: str, rules: ReadRules) -> None:
        self._lines = lines_of(cast("BinaryIO", window), name, rules, WHOLE)
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
