"""What reading a corpus gives: documents, and a counted outcome for every row that is not one."""

import json
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from data.documents import Document


class TextFormat(Enum):
    """How a file holds its documents."""

    auto = "auto"  # by suffix: .jsonl and .ndjson, .parquet, anything else text; .gz before it is looked at
    text = "text"  # one document per file; source code too
    jsonl = "jsonl"  # one JSON object per line
    parquet = "parquet"  # one row per document


class Reason(Enum):
    """Why a row, or what is left of a file, is no document."""

    UNOPENABLE = "unopenable"  # the file cannot be opened or read
    INVALID_UTF8 = "invalid_utf8"  # bytes that are not UTF-8, or a lone surrogate in a JSON string
    BAD_JSON = "bad_json"
    MISSING_FIELD = "missing_field"  # the text or id field is not there
    WRONG_TYPE = "wrong_type"  # the row is no object, or the field no string
    EMPTY = "empty"  # nothing but white space
    TOO_LARGE = "too_large"  # beyond max_document_bytes
    CORRUPT_GZIP = "corrupt_gzip"  # one outcome for all that follows in the file
    CORRUPT_PARQUET = "corrupt_parquet"


@dataclass
class ReadRules:
    """How files become documents."""

    format: TextFormat = TextFormat.auto
    "auto: by suffix; text: one document per file; jsonl: per line; parquet: per row."
    text_field: str = "text"
    "Field or column of the text, in jsonl and parquet."
    id_field: str | None = None
    "Field or column of the document's id (a string or an integer); None: `file#row`."
    max_document_bytes: int = 1 << 28
    "A text file or line beyond this many bytes is counted as too_large, not read; > 0."


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
            self.num_bytes += len(outcome.text.encode())
        else:
            self.num_rows += outcome.num_rows
            self.unreadable[outcome.reason] += outcome.num_rows

    def as_dict(self) -> dict[str, int]:
        """Flat names for a manifest: rows, documents, bytes, and unreadable/<reason> for each that occurred."""
        counts = {f"unreadable/{reason.value}": self.unreadable[reason] for reason in Reason}
        totals = {"rows": self.num_rows, "documents": self.num_documents, "bytes": self.num_bytes}
        return totals | {name: count for name, count in counts.items() if count}


def checked(*, text: object, source: str, row: int, doc_id: str, metadata: str = "") -> Document | Unreadable:
    """A document, or why this text is none: not a string, a lone surrogate, nothing but white space."""
    if not isinstance(text, str):
        return Unreadable(source, row, Reason.WRONG_TYPE, f"the text is of type {type(text).__name__}")
    if not text or text.isspace():
        return Unreadable(source, row, Reason.EMPTY, "nothing but white space")
    try:
        (doc_id + text).encode()
    except UnicodeEncodeError as error:
        return Unreadable(source, row, Reason.INVALID_UTF8, str(error))
    return Document(doc_id, text, source, row, metadata)


def row_document(
    fields: dict[str, object], *, source: str, row: int, rules: ReadRules
) -> Document | Unreadable:
    """A document out of a row's fields; those that are neither text nor id become its metadata."""
    needed = [rules.text_field] if rules.id_field is None else [rules.text_field, rules.id_field]
    if missing := [name for name in needed if name not in fields]:
        return Unreadable(
            source, row, Reason.MISSING_FIELD, f"no field {missing[0]!r} among {sorted(fields)}"
        )
    doc_id = f"{source}#{row}" if rules.id_field is None else fields[rules.id_field]
    if not isinstance(doc_id, str | int) or isinstance(doc_id, bool):
        return Unreadable(source, row, Reason.WRONG_TYPE, f"the id is of type {type(doc_id).__name__}")
    rest = {name: value for name, value in fields.items() if name not in needed}
    # ASCII, so that a lone surrogate in a field that nobody reads does not cost the document
    metadata = json.dumps(rest, sort_keys=True, separators=(",", ":"), default=str) if rest else ""
    return checked(
        text=fields[rules.text_field], source=source, row=row, doc_id=str(doc_id), metadata=metadata
    )
