"""Separated values by the block: where a stretch of a file is well formed, Arrow parses it at once.

What is well formed is decided here, and narrowly, so that Arrow and the strict parser of `csv` cannot differ on it;
everything else is left to that parser, which knows what to say of it.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv

from data.reading import DamagedError

BLOCK_BYTES = 1 << 18
_QUOTE, _LF, _CR = b'"\n\r'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"Arrow drops it from the beginning of whatever it is given."


class Window:
    """A stream with a view of what comes next. It breaks where the stream does: behind the last whole line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: Any = stream
        self._fills = isinstance(stream, io.BufferedReader) and not isinstance(stream.raw, io.FileIO)
        "Whether its buffer is of the size that suits what is below it: a decompressor, another machine."
        self._held, self._begin = b"", 0
        self._damage: DamagedError | OSError | None = None
        self._is_over = False
        self.position = 0
        "Bytes consumed."

    def ahead(self) -> bytes:
        """The next `BLOCK_BYTES`; fewer only where the stream ends or breaks."""
        held = [self._held[self._begin :]]
        while (missing := BLOCK_BYTES - sum(map(len, held))) > 0 and (more := self._more(missing)):
            held.append(more)
        self._held, self._begin = b"".join(held), 0
        return self._held

    def is_last(self) -> bool:
        """Whether what is held is all that the stream has, and it did not break."""
        return self._is_over and self._damage is None

    def consume(self, num_bytes: int) -> None:
        self._begin += num_bytes
        self.position += num_bytes

    def readline(self, size: int) -> bytes:
        """At most `size` bytes of a line, as of any stream.

        Raises:
            DamagedError, OSError: the stream broke, and no whole line or `size` of bytes came before.
        """
        parts: list[bytes] = []
        while size > 0:
            end = self._held.find(b"\n", self._begin, self._begin + size) + 1
            end = end or min(len(self._held), self._begin + size)
            parts.append(self._held[self._begin : end])
            size -= end - self._begin
            self.consume(end - self._begin)
            if parts[-1].endswith(b"\n") or not size:
                break
            self._held, self._begin = self._more(BLOCK_BYTES), 0
            if not self._held:
                break
        if self._damage and not (parts and (parts[-1].endswith(b"\n") or not size)):
            raise self._damage
        return b"".join(parts)

    def _more(self, most: int) -> bytes:
        """What one read gives, so that nothing is lost of what comes before damage; nothing at the end."""
        if self._is_over:
            return b""
        try:
            if self._fills:
                self._stream.peek()
            found: bytes = self._stream.read1(most)
        except (DamagedError, OSError) as error:
            self._damage, found = error, b""
        self._is_over = not found
        return found


def whole_rows(ahead: bytes, *, delimiter: str, is_last: bool) -> int:
    """Bytes of the whole rows at the beginning, or 0 where one is not as RFC 4180 has it.

    Every other quotation mark, from the first on, opens a field or is the second of a pair: it follows a delimiter, a
    line end or another mark. The rest close one or are the first of a pair, and are followed by one of these.
    """
    if b'"' not in ahead:
        end = len(ahead) if is_last else ahead.rfind(b"\n") + 1
        if not end:
            return 0
        content = np.frombuffer(ahead, np.uint8, end)
        after_returns = content.take(np.flatnonzero(content == _CR) + 1, mode="clip")
        return end if (after_returns == _LF).all() else 0
    content = np.frombuffer(b"\n" + ahead + b"\n", np.uint8)  # so that the first and the last have neighbours
    marks = np.flatnonzero(content == _QUOTE)
    line_ends = np.flatnonzero(content == _LF)
    between_rows = line_ends[np.searchsorted(marks, line_ends) % 2 == 0]
    end = int(between_rows[-1] if is_last or between_rows[-1] <= len(ahead) else between_rows[-2])
    marks = marks[marks < end]
    opening, closing = content[marks[0::2] - 1], content[marks[1::2] + 1]
    beside = np.array([ord(delimiter), _LF, _QUOTE])
    if ahead.startswith(_BYTE_ORDER_MARK) or (content[np.flatnonzero(content == _CR) + 1] != _LF).any():
        return 0
    is_formed = np.isin(opening, beside).all() and np.isin(closing, [*beside, _CR]).all()
    return end if is_formed else 0


def parsed(rows: bytes, *, delimiter: str, num_columns: int) -> Iterator[Sequence[str]] | None:
    """The fields of `whole_rows`, bytes that are no UTF-8 as lone surrogates; None where Arrow cannot say them."""
    if b'"' not in rows:
        return _split(rows, delimiter)
    names = [f"{number}" for number in range(num_columns)]
    try:
        table = csv.read_csv(
            pa.BufferReader(rows),
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(rows) + 1),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid:  # a row with more or fewer fields, bytes that are no UTF-8
        return None
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _split(rows: bytes, delimiter: str) -> Iterator[list[str]]:
    """Of rows without quotation marks; blank lines are none."""
    for line in io.BytesIO(rows):  # which finds the ends of long lines faster than `split` does
        fields = line.decode("utf-8", "surrogateescape").split(delimiter)
        fields[-1] = fields[-1].rstrip("\r\n")
        if fields != [""]:
            yield fields
