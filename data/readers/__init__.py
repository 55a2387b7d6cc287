"""Reading one file into documents. Every row is an outcome: a `Document`, or an `Unreadable` with its reason."""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from data.documents import Document
from data.files import SourceFile
from data.readers.arrow import read_arrow
from data.readers.compression import Compression, inflated
from data.readers.extent import WHOLE, Extent
from data.readers.json_array import read_json
from data.readers.lines import read_jsonl, read_plain_lines, read_text
from data.readers.parquet import read_parquet
from data.readers.separated import DELIMITERS, read_separated
from data.reading import ReadRules, Reason, TextFormat, Unreadable

Outcome = Document | Unreadable

SUFFIXES = {
    **dict.fromkeys((".html", ".htm", ".xhtml"), TextFormat.html),
    **dict.fromkeys((".jsonl", ".ndjson"), TextFormat.jsonl),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), TextFormat.arrow),
    ".json": TextFormat.json,
    ".csv": TextFormat.csv,
    ".tsv": TextFormat.tsv,
    ".parquet": TextFormat.parquet,
}
COMPRESSIONS = {f".{each.name}": each for each in Compression}
COLUMNAR: dict[TextFormat, Callable[[BinaryIO, str, ReadRules, Extent], Iterator[Outcome]]] = {
    TextFormat.parquet: read_parquet,
    TextFormat.arrow: read_arrow,
}


def read_file(file: SourceFile, *, rules: ReadRules, extent: Extent = WHOLE) -> Iterator[Outcome]:
    """The documents of one file, or of a stretch of it, in order; a file that cannot be read is an outcome.

    Memory is bounded by the largest document, record batch or row group, never by the file.
    """
    try:
        stream = file.open()
    except OSError as error:
        yield Unreadable(file.name, extent.first_row, Reason.UNOPENABLE, str(error))
        return
    with stream:
        yield from read_stream(stream, name=file.name, rules=rules, extent=extent)


def read_stream(
    stream: BinaryIO, *, name: str, rules: ReadRules, extent: Extent = WHOLE
) -> Iterator[Outcome]:
    """The documents of an open, seekable binary file called `name` (its suffixes tell format and compression)."""
    text_format, compression = kind_of(name, rules)
    if text_format in COLUMNAR and compression:
        detail = f"{text_format.value} is compressed within; {compression.name} around it cannot be read"
        yield Unreadable(name, 0, Reason.UNSUPPORTED, detail)
    elif text_format in COLUMNAR:
        yield from COLUMNAR[text_format](stream, name, rules, extent)
    else:
        plain = inflated(stream, compression, rules=rules) if compression else stream
        yield from _read_plain(plain, text_format, name, rules, extent)


def kind_of(name: str, rules: ReadRules) -> tuple[TextFormat, Compression | None]:
    """Format and compression of a file, by its suffixes and by what the rules say."""
    path = PurePosixPath(name.lower())
    compression = COMPRESSIONS.get(path.suffix)
    if rules.format is not TextFormat.auto:
        return rules.format, compression
    suffix = path.with_suffix("").suffix if compression else path.suffix
    return SUFFIXES.get(suffix, TextFormat.text), compression


def _read_plain(
    stream: BinaryIO, text_format: TextFormat, name: str, rules: ReadRules, extent: Extent
) -> Iterator[Outcome]:
    if text_format is TextFormat.jsonl:
        return read_jsonl(stream, name, rules, extent)
    if text_format is TextFormat.lines:
        return read_plain_lines(stream, name, rules, extent)
    if text_format is TextFormat.json:
        return read_json(stream, name, rules)
    if delimiter := DELIMITERS.get(text_format.value):
        return read_separated(stream, name, rules, delimiter=delimiter)
    if text_format is TextFormat.html:
        from data.readers.pages import read_html  # half a second to import, for pages alone

        return read_html(stream, name, rules)
    return read_text(stream, name, rules)
