"""Text that is read as bytes: a whole file as one document, or one per line, or per line of JSON."""

import json
from collections.abc import Callable, Iterator
from typing import BinaryIO

from data.documents import Document
from data.readers.extent import Extent
from data.reading import DamagedError, ReadRules, Reason, Unreadable, checked, row_document, too_large

Outcome = Document | Unreadable
Line = tuple[int, bytes | Unreadable]
"The number of a line, and its bytes with their line end, or what it is instead."

_decode = json.JSONDecoder().decode

SKIP_BYTES = 1 << 20
"Bytes of a line that nobody needs, held at once."


def read_text(stream: BinaryIO, name: str, rules: ReadRules) -> Iterator[Outcome]:
    """The whole file is one document, its id the file's name."""
    raw = whole_file(stream, name, rules)
    yield raw if isinstance(raw, Unreadable) else _text_document(raw, name, 0, name, rules)


def whole_file(stream: BinaryIO, name: str, rules: ReadRules) -> bytes | Unreadable:
    """A file's bytes, if it has no more than a document may."""
    raw = guarded(lambda: stream.read(rules.max_document_bytes + 1), name, row=0)
    if isinstance(raw, bytes) and len(raw) > rules.max_document_bytes:
        return too_large(name, 0, rules)
    return raw


def read_plain_lines(stream: BinaryIO, name: str, rules: ReadRules, extent: Extent) -> Iterator[Outcome]:
    """A document per line that is not blank, without its line end; a row's number is its line's, from 0."""
    for row, line in lines_of(stream, name, rules, extent):
        if isinstance(line, Unreadable):
            yield line
        elif not line.isspace():
            yield _text_document(line.rstrip(b"\r\n"), name, row, f"{name}#{row}", rules)


def read_jsonl(stream: BinaryIO, name: str, rules: ReadRules, extent: Extent) -> Iterator[Outcome]:
    """A document per line that is not blank; a row's number is its line's, from 0."""
    for row, line in lines_of(stream, name, rules, extent):
        if isinstance(line, Unreadable):
            yield line
        elif not line.isspace():
            yield _json_document(line, name, row, rules)


def lines_of(stream: BinaryIO, name: str, rules: ReadRules, extent: Extent) -> Iterator[Line]:
    """The lines that begin in an extent; ends after the first that the file itself could not give."""
    row, limit = extent.first_row, rules.max_document_bytes + 1
    end = float("inf") if extent.end is None else extent.end
    readline = stream.readline
    try:
        position = _seek_line(stream, extent)
        while position < end and (line := readline(limit)):
            position += len(line)
            yield row, line if len(line) < limit else too_large(name, row, rules)
            if len(line) == limit and not line.endswith(b"\n"):
                position = _line_end(stream, position, end)
            row += 1
    except (DamagedError, OSError) as error:
        yield row, damage(error, name, row)


def count_lines(stream: BinaryIO, begin: int, end: int) -> int:
    """How many lines begin in [begin, end): one at 0, and one behind each line end; a MiB in memory."""
    num_lines = 1 if begin == 0 < end else 0
    position = max(begin - 1, 0)
    stream.seek(position)
    while position < end - 1:
        content = stream.read(min(SKIP_BYTES, end - 1 - position))
        if not content:
            break
        num_lines += content.count(b"\n")
        position += len(content)
    return num_lines


def guarded(read: Callable[[], bytes], name: str, *, row: int) -> bytes | Unreadable:
    """What `read` gives, or how the file itself broke; no more of it can be read then."""
    try:
        return read()
    except (DamagedError, OSError) as error:
        return damage(error, name, row)


def damage(error: DamagedError | OSError, name: str, row: int) -> Unreadable:
    reason = error.reason if isinstance(error, DamagedError) else Reason.UNOPENABLE
    return Unreadable(name, row, reason, str(error))


def _seek_line(stream: BinaryIO, extent: Extent) -> int:
    """Go to the first line that begins in the extent, or to its end."""
    if extent.begin == 0:
        return 0
    stream.seek(extent.begin - 1)  # where a line end means that a line begins at `begin`
    return _line_end(stream, extent.begin - 1, float("inf") if extent.end is None else extent.end)


def _line_end(stream: BinaryIO, position: int, end: float) -> int:
    """Skip to where the next line begins; the position, or one at or past `end` where none does before it."""
    while position < end and (piece := stream.readline(SKIP_BYTES)):
        position += len(piece)
        if piece.endswith(b"\n"):
            break
    return position


def _text_document(raw: bytes, name: str, row: int, doc_id: str, rules: ReadRules) -> Outcome:
    try:
        text = raw.decode("utf-8-sig")  # a byte order mark is no text
    except UnicodeDecodeError as error:
        return Unreadable(name, row, Reason.INVALID_UTF8, str(error))
    return checked(text=text, source=name, row=row, doc_id=doc_id, rules=rules)


def _json_document(line: bytes, name: str, row: int, rules: ReadRules) -> Outcome:
    try:
        fields = _decode(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Unreadable(name, row, Reason.INVALID_UTF8, str(error))
    except (ValueError, RecursionError) as error:
        return Unreadable(name, row, Reason.BAD_JSON, str(error))
    return json_row(fields, name, row, rules)


def json_row(fields: object, name: str, row: int, rules: ReadRules) -> Outcome:
    """A document out of a value of JSON, if it is an object."""
    if not isinstance(fields, dict):
        return Unreadable(name, row, Reason.WRONG_TYPE, f"the row is of type {type(fields).__name__}")
    return row_document(fields, source=name, row=row, rules=rules)
