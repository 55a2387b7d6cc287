"""Parting a large file among tasks: the same documents, ids and rows as one reader would give.

A row's id is `file#row`, whoever reads it, so a reader of the middle must know how many rows lie before. They are
counted first (a survey), rather than called by their bytes, because a row's number is what a person finds in an editor,
what other tools call it, and what a corpus keeps when it is compressed. Counting costs little: line ends are counted at
memory's speed, and Parquet and Arrow carry the counts.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from data.documents import Document
from data.files import SourceFile
from data.readers import kind_of, read_file
from data.readers.arrow import (
    check_stream_end,
    is_arrow_file,
    num_rows_of,
    read_file_batches,
    unpacked_bytes_of,
)
from data.readers.columns import BROKEN, check_names
from data.readers.compression import inflation
from data.readers.extent import WHOLE, Extent
from data.readers.lines import count_lines
from data.readers.parquet import open_parquet
from data.readers.unpacking import is_little_endian
from data.reading import ReadRules, TextFormat, Unreadable

LINES = (TextFormat.jsonl, TextFormat.lines)
PARTED = (*LINES, TextFormat.parquet, TextFormat.arrow)
SURVEY_BYTES = 1 << 30
"Looked through by one task."
MOST_FILES = 1 << 14
"In one group: files of a few bytes each would otherwise all be one."

Count = tuple[int, int, int, int]
"Of an extent: where it begins and ends, how many rows begin in it, and its bytes."


@dataclass(frozen=True, slots=True)
class Span:
    """What one survey looks through: a file, or a stretch of its bytes."""

    file: SourceFile
    begin: int
    end: int

    @property
    def num_bytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a file that is read by itself."""

    file: SourceFile
    extent: Extent
    num_bytes: int


Piece = SourceFile | Part
"What one task reads: a file whole, as most are, or a part of one."


def read_piece(piece: Piece, *, rules: ReadRules) -> Iterator[Document | Unreadable]:
    file, extent = (piece, WHOLE) if isinstance(piece, SourceFile) else (piece.file, piece.extent)
    return read_file(file, rules=rules, extent=extent)


def file_of(piece: Piece | Span) -> SourceFile:
    return piece if isinstance(piece, SourceFile) else piece.file


def spans_of(files: Sequence[SourceFile], *, rules: ReadRules, part_bytes: int) -> list[Span]:
    """What must be looked through before files of more than `part_bytes` can be parted.

    Compressed files, and formats in which a row's beginning is known from the file's beginning alone, are not parted.
    """
    spans = []
    for file in files:
        if file.num_bytes <= part_bytes:
            continue
        text_format, compression = kind_of(file.name, rules)
        if compression or text_format not in PARTED:
            continue
        step = file.num_bytes
        if text_format in LINES:
            step = max(1, SURVEY_BYTES // part_bytes) * part_bytes
        begins = [*range(0, file.num_bytes, step), file.num_bytes]
        spans += [Span(file, begin, end) for begin, end in pairwise(begins)]
    return spans


def survey(span: Span, *, rules: ReadRules, part_bytes: int) -> list[Count]:
    """The extents of about `part_bytes` that a span has; none where it cannot be parted, or not be read."""
    text_format, _ = kind_of(span.file.name, rules)
    try:
        with span.file.open() as stream:
            if text_format in LINES:
                begins = [*range(span.begin, span.end, part_bytes), span.end]
                return [(b, e, count_lines(stream, b, e), e - b) for b, e in pairwise(begins)]
            units = (
                _row_groups(stream, span.num_bytes)
                if text_format is TextFormat.parquet
                else _batches(stream, rules)
            )
            return _gathered(list(units), part_bytes)
    except BROKEN:  # said in words by whoever reads it whole
        return []


def pieces_of(
    files: Sequence[SourceFile], spans: Sequence[Span], counts: Sequence[Sequence[Count]]
) -> list[Piece]:
    """The files in order, those that were surveyed in parts."""
    found: dict[str, list[Sequence[Count]]] = {}
    for span, each in zip(spans, counts, strict=True):
        found.setdefault(span.file.name, []).append(each)
    pieces: list[Piece] = []
    for file in files:
        surveys = found.get(file.name, [])
        pieces += _parts(file, surveys) if surveys and all(surveys) else [file]
    return pieces


def grouped(pieces: Sequence[Any], group_bytes: int) -> list[list[Any]]:
    """Consecutive pieces in groups of about `group_bytes`; a function of their sizes alone."""
    groups: list[list[Any]] = [[]]
    held = 0
    for piece in pieces:
        if groups[-1] and (held + piece.num_bytes > group_bytes or len(groups[-1]) == MOST_FILES):
            groups.append([])
            held = 0
        groups[-1].append(piece)
        held += piece.num_bytes
    return groups


def _parts(file: SourceFile, surveys: Sequence[Sequence[Count]]) -> list[Piece]:
    parts: list[Piece] = []
    first = 0
    for begin, end, num_rows, num_bytes in (count for each in surveys for count in each):
        parts.append(Part(file, Extent(begin, end, first), num_bytes))
        first += num_rows
    return parts


def _gathered(units: list[Count], part_bytes: int) -> list[Count]:
    """Consecutive units as extents of about `part_bytes`."""
    extents: list[Count] = []
    for begin, end, num_rows, num_bytes in units:
        if extents and extents[-1][3] + num_bytes <= part_bytes:
            last = extents.pop()
            extents.append((last[0], end, last[2] + num_rows, last[3] + num_bytes))
        else:
            extents.append((begin, end, num_rows, num_bytes))
    return extents


def _row_groups(stream: Any, num_bytes: int) -> Iterator[Count]:
    """One unit per row group, its bytes a share of the file's by what it unpacks to."""
    file = open_parquet(stream)
    groups = [file.metadata.row_group(place) for place in range(file.num_row_groups)]
    unpacked = max(1, sum(group.total_byte_size for group in groups))
    for place, group in enumerate(groups):
        yield place, place + 1, group.num_rows, num_bytes * group.total_byte_size // unpacked


def _batches(stream: Any, rules: ReadRules) -> Iterator[Count]:
    return _batches_of_file(stream, rules) if is_arrow_file(stream) else _batches_of_stream(stream, rules)


def _batches_of_file(stream: Any, rules: ReadRules) -> Iterator[Count]:
    """One unit per record batch; a broken one counts as the one row that its reader makes of it.

    Its bytes are those of its buffers: `nbytes` follows offsets, and where one is wrong the process ends.
    """
    for place, batch in enumerate(read_file_batches(stream, WHOLE, rules)):
        if isinstance(batch, Exception):
            yield place, place + 1, 1, 0
        else:
            yield place, place + 1, num_rows_of(batch), batch.get_total_buffer_size()


def _batches_of_stream(stream: Any, rules: ReadRules) -> Iterator[Count]:
    """One unit per record batch, in bytes.

    None where a batch inflates too far or cannot be read by itself, as it needs dictionaries or has its bytes swapped.
    """
    num_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    source = pa.PythonFile(stream, "r")
    first = pa.ipc.read_message(source)
    source.seek(0)
    schema = pa.ipc.read_schema(source)
    check_names(schema)
    if not is_little_endian(first.metadata.to_pybytes()):
        return iter(())
    units: list[Count] = []
    begin = 0
    while True:
        try:
            message = pa.ipc.read_message(source)
        except EOFError:
            check_stream_end(stream, begin)
            return iter(units)
        if message.type != "record batch" or inflation(
            unpacked_bytes_of(message) or 0, num_bytes, rules, unit="record batch"
        ):
            return iter(())
        end = source.tell()
        units.append((begin, end, num_rows_of(pa.ipc.read_record_batch(message, schema)), end - begin))
        begin = end
