"""What reading a corpus gives: documents, and a counted outcome for every row that is not one."""

import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from json.encoder import encode_basestring_ascii

from data.documents import Document
from data.errors import Problem


class TextFormat(Enum):
    """How a file holds its documents."""

    auto = "auto"  # by suffix, that of a compression aside; text where the suffix says nothing
    text = "text"  # one document per file; source code and Markdown too
    lines = "lines"  # one document per line of text
    html = "html"  # one document per page: its main text
    jsonl = "jsonl"  # one JSON object per line
    json = "json"  # one array of objects, or one object
    csv = "csv"  # a header, then one row per document; RFC 4180
    tsv = "tsv"  # the same with tabs
    parquet = "parquet"  # one row per document
    arrow = "arrow"  # Arrow IPC, file (Feather 2) or stream (what `datasets` saves): one row per document


class Reason(Enum):
    """Why a row, or what is left of a file, is no document."""

    UNOPENABLE = "unopenable"  # the file cannot be opened or read
    INVALID_UTF8 = "invalid_utf8"  # bytes that are not UTF-8, or a lone surrogate in a JSON string
    BAD_JSON = "bad_json"
    BAD_CSV = "bad_csv"  # quotes that do not match; at the end of the file one outcome for all that is left
    RAGGED_ROW = "ragged_row"  # more or fewer fields than the header
    MISSING_FIELD = "missing_field"  # the text or id field is not there
    WRONG_TYPE = "wrong_type"  # the row is no object, or the field no string
    EMPTY = "empty"  # nothing but white space
    NO_MAIN_TEXT = "no_main_text"  # a page of links, forms or nothing
    TOO_LARGE = "too_large"  # beyond max_document_bytes
    INFLATES = "inflates"  # beyond max_inflation; one outcome for all that follows in the file
    CORRUPT_GZIP = "corrupt_gzip"  # one outcome for all that follows in the file
    CORRUPT_BZ2 = "corrupt_bz2"
    CORRUPT_XZ = "corrupt_xz"
    CORRUPT_ZST = "corrupt_zst"
    CORRUPT_PARQUET = "corrupt_parquet"
    CORRUPT_ARROW = "corrupt_arrow"
    UNSUPPORTED = "unsupported"  # compression around a format that compresses within


ALL_FIELDS = "*"


@dataclass
class ReadRules:
    """How files become documents."""

    format: TextFormat = TextFormat.auto
    "auto: by suffix; per file: text, html; per line: lines, jsonl; per row: json, csv, tsv, parquet, arrow."
    text_field: str = "text"
    "Field or column of the text, in formats with fields."
    id_field: str | None = None
    "Field or column of the document's id (a string or an integer); None: `file#row`."
    metadata_fields: list[str] = field(default_factory=lambda: [ALL_FIELDS])
    "Globs of the other fields that are kept as metadata; [*]: all; []: none."
    max_document_bytes: int = 1 << 28
    "A text, line or element beyond this many bytes is counted as too_large, and never in memory as a whole; > 0."
    max_inflation: int = 1000
    "A compressed file that gives more than this many times its bytes (and 1 MiB) is read no further; > 0."

    def problems(self) -> list[Problem]:
        sizes = {"max_document_bytes": self.max_document_bytes, "max_inflation": self.max_inflation}
        found = [
            Problem(name, f"it is {size}", "> 0", "leave it out") for name, size in sizes.items() if size <= 0
        ]
        if not self.text_field:
            found.append(Problem("text_field", "it is empty", "the name of a field", "leave it out"))
        if self.id_field == self.text_field:
            found.append(
                Problem("id_field", "it is the text field", "another field, or null", "leave it out")
            )
        return found

    def keeps(self, name: str) -> bool:
        """Whether a field that is neither text nor id becomes metadata."""
        return self.metadata_fields == [ALL_FIELDS] or _matches(name, tuple(self.metadata_fields))


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is no document, or `num_rows` of them at once."""

    source: str
    row: int
    "The first of them, from 0."
    reason: Reason
    detail: str
    "The parser's words."
    num_rows: int = 1
    "How many rows this stands for; 1 also where a broken file does not tell how many it had."


@dataclass
class ReadCounters:
    """num_rows = num_documents + the sum of `unreadable`; every outcome is added exactly once."""

    num_rows: int = 0
    num_documents: int = 0
    num_bytes: int = 0
    "UTF-8 bytes of the documents' texts."
    unreadable: Counter[Reason] = field(default_factory=Counter)

    def add(self, outcome: Document | Unreadable) -> None:
        if isinstance(outcome, Document):
            self.num_rows += 1
            self.num_documents += 1
            self.num_bytes += num_bytes(outcome.text)
        else:
            self.num_rows += outcome.num_rows
            self.unreadable[outcome.reason] += outcome.num_rows

    def as_dict(self) -> dict[str, int]:
        """Flat names for a manifest: rows, documents, bytes, and unreadable/<reason> for each that occurred."""
        counts = {f"unreadable/{reason.value}": self.unreadable[reason] for reason in Reason}
        totals = {"rows": self.num_rows, "documents": self.num_documents, "bytes": self.num_bytes}
        return totals | {name: count for name, count in counts.items() if count}


class DamagedError(Exception):
    """Raised by a stream that cannot go on; whoever reads it turns it into an outcome."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def checked(
    *, text: object, source: str, row: int, doc_id: str, rules: ReadRules, metadata: str = ""
) -> Document | Unreadable:
    """A document, or why this text is none: not a string, a lone surrogate, too long, nothing but white space."""
    if not isinstance(text, str):
        return Unreadable(source, row, Reason.WRONG_TYPE, f"the text is of type {type(text).__name__}")
    if not text or text.isspace():
        return Unreadable(source, row, Reason.EMPTY, "nothing but white space")
    try:
        doc_id.encode()
        size = num_bytes(text)
    except UnicodeEncodeError as error:
        return Unreadable(source, row, Reason.INVALID_UTF8, str(error))
    if size > rules.max_document_bytes:
        return too_large(source, row, rules)
    return Document(doc_id, text, source, row, metadata)


def row_document(
    fields: dict[str, object], *, source: str, row: int, rules: ReadRules
) -> Document | Unreadable:
    """A document out of a row's fields; those that are neither text nor id become its metadata."""
    text_field, id_field = rules.text_field, rules.id_field
    for name in (text_field, id_field):
        if name is not None and name not in fields:
            return Unreadable(source, row, Reason.MISSING_FIELD, f"no field {name!r} among {sorted(fields)}")
    doc_id = f"{source}#{row}" if id_field is None else fields[id_field]
    if not isinstance(doc_id, str | int) or isinstance(doc_id, bool):
        return Unreadable(source, row, Reason.WRONG_TYPE, f"the id is of type {type(doc_id).__name__}")
    rest = {name: value for name, value in fields.items() if name not in (text_field, id_field)}
    if rules.metadata_fields != [ALL_FIELDS]:
        rest = {name: value for name, value in rest.items() if rules.keeps(name)}
    try:
        metadata = _as_json(rest) if rest else ""
    except RecursionError as error:
        return Unreadable(source, row, Reason.WRONG_TYPE, f"a field is nested too deep: {error}")
    text = fields[text_field]
    return checked(text=text, source=source, row=row, doc_id=str(doc_id), rules=rules, metadata=metadata)


def string_rows(
    header: Sequence[str], *, source: str, rules: ReadRules
) -> Callable[[Sequence[str], int], Document | Unreadable]:
    """What makes a document of a row of strings, as many as the header has, and its number.

    It does as `row_document`, in half the time.
    """
    if not {rules.text_field, rules.id_field} <= {*header, None}:
        return lambda values, row: row_document(
            dict(zip(header, values, strict=True)), source=source, row=row, rules=rules
        )
    places = {name: column for column, name in enumerate(header)}
    text_at, id_at = (
        places.pop(rules.text_field),
        None if rules.id_field is None else places.pop(rules.id_field),
    )
    names = sorted(filter(rules.keeps, places))
    rest = [places[name] for name in names]
    keys = (encode_basestring_ascii(name).replace("%", "%%") for name in names)
    metadata_of = "{" + ",".join(f"{key}:%s" for key in keys) + "}" if rest else ""

    def document(values: Sequence[str], row: int) -> Document | Unreadable:
        text = values[text_at]
        metadata = metadata_of % tuple([encode_basestring_ascii(values[at]) for at in rest])
        doc_id = f"{source}#{row}" if id_at is None else values[id_at]
        return checked(text=text, source=source, row=row, doc_id=doc_id, rules=rules, metadata=metadata)

    return document


def num_bytes(text: str) -> int:
    """Bytes of a text as UTF-8; Python knows of a text that it is ASCII without looking."""
    return len(text) if text.isascii() else len(text.encode())


def too_large(source: str, row: int, rules: ReadRules) -> Unreadable:
    what = f"more than {rules.max_document_bytes} bytes (rules.max_document_bytes)"
    return Unreadable(source, row, Reason.TOO_LARGE, what)


def _as_json(fields: dict[str, object]) -> str:
    """A JSON object, ASCII, so that a lone surrogate in a field that nobody reads does not cost the document.

    Numbers that JSON has no words for become strings ("NaN", "Infinity"), as in the JSON mapping of Protocol Buffers.
    """
    try:
        return _encoder.encode(fields)
    except ValueError:
        return _encoder.encode(_finite(fields))


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@functools.lru_cache(maxsize=4096)
def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
