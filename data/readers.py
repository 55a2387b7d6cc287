"""Reading one file into documents. Every row is an outcome: a `Document`, or an `Unreadable` with its reason."""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from data.documents import Document
from data.files import SourceFile
from data.parquet import read_parquet
from data.reading import ReadRules, Reason, TextFormat, Unreadable, checked, row_document

Outcome = Document | Unreadable

SUFFIXES = {".jsonl": TextFormat.jsonl, ".ndjson": TextFormat.jsonl, ".parquet": TextFormat.parquet}
GZIP_ERRORS = (gzip.BadGzipFile, zlib.error, EOFError)


def read_file(file: SourceFile, *, rules: ReadRules) -> Iterator[Outcome]:
    """The documents of one local file, in order, in bounded memory; a file that cannot be read is an outcome."""
    try:
        stream = file.path.open("rb")
    except OSError as error:
        yield Unreadable(file.name, 0, Reason.UNOPENABLE, str(error))
        return
    with stream:
        yield from read_stream(stream, name=file.name, rules=rules)


def read_stream(stream: BinaryIO, *, name: str, rules: ReadRules) -> Iterator[Outcome]:
    """The documents of an open binary file called `name` (its suffixes tell format and compression)."""
    path = PurePosixPath(name)
    is_gzip = path.suffix == ".gz"
    text_format = rules.format
    if text_format is TextFormat.auto:
        text_format = SUFFIXES.get(path.with_suffix("").suffix if is_gzip else path.suffix, TextFormat.text)
    if text_format is TextFormat.parquet:
        yield from read_parquet(stream, name=name, rules=rules)
        return
    plain = cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if is_gzip else stream
    read = _read_jsonl if text_format is TextFormat.jsonl else _read_text
    yield from read(plain, name, rules)


def _read_text(stream: BinaryIO, name: str, rules: ReadRules) -> Iterator[Outcome]:
    """The whole file is one document, its id the file's name."""
    raw = _guarded(lambda: stream.read(rules.max_document_bytes + 1), name, row=0)
    yield raw if isinstance(raw, Unreadable) else _text_document(raw, name, rules)


def _text_document(raw: bytes, name: str, rules: ReadRules) -> Outcome:
    if len(raw) > rules.max_document_bytes:
        return _too_large(name, 0, rules)
    try:
        text = raw.decode("utf-8-sig")  # a byte order mark is no text
    except UnicodeDecodeError as error:
        return Unreadable(name, 0, Reason.INVALID_UTF8, str(error))
    return checked(text=text, source=name, row=0, doc_id=name)


def _read_jsonl(stream: BinaryIO, name: str, rules: ReadRules) -> Iterator[Outcome]:
    """A document per line that is not blank; a row's number is its line's, from 0."""
    for row, line in enumerate(_lines(stream, name, rules)):
        if isinstance(line, Unreadable):
            yield line
        elif not line.isspace():
            yield _json_document(line, name, row, rules)


def _lines(stream: BinaryIO, name: str, rules: ReadRules) -> Iterator[bytes | Unreadable]:
    """Each line, or what it is instead; ends after the first that the file itself could not give."""
    for row in itertools.count():
        line = _guarded(lambda: stream.readline(rules.max_document_bytes + 1), name, row=row)
        if not isinstance(line, bytes):
            yield line
            return
        if not line:
            return
        if len(line) <= rules.max_document_bytes:
            yield line
            continue
        yield _too_large(name, row, rules)
        while line and not line.endswith(b"\n"):
            line = _guarded(lambda: stream.readline(1 << 20), name, row=row + 1)
            if not isinstance(line, bytes):
                yield line
                return


def _json_document(line: bytes, name: str, row: int, rules: ReadRules) -> Outcome:
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Unreadable(name, row, Reason.INVALID_UTF8, str(error))
    except (ValueError, RecursionError) as error:
        return Unreadable(name, row, Reason.BAD_JSON, str(error))
    if not isinstance(fields, dict):
        return Unreadable(name, row, Reason.WRONG_TYPE, f"the row is of type {type(fields).__name__}")
    return row_document(fields, source=name, row=row, rules=rules)


def _guarded(read: Callable[[], bytes], name: str, *, row: int) -> bytes | Unreadable:
    """What `read` gives, or how the file itself broke; no more of it can be read then."""
    try:
        return read()
    except GZIP_ERRORS as error:
        return Unreadable(name, row, Reason.CORRUPT_GZIP, str(error))
    except OSError as error:
        return Unreadable(name, row, Reason.UNOPENABLE, str(error))


def _too_large(name: str, row: int, rules: ReadRules) -> Unreadable:
    return Unreadable(name, row, Reason.TOO_LARGE, f"more than {rules.max_document_bytes} bytes")
