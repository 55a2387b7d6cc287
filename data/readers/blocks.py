"""Separated values by the block: where a stretch of a file is well formed, its rows are found at once.

What is well formed is decided narrowly, so that nothing here can differ from the strict parser of `csv`; everything
else is left to that parser, which knows what to say of it.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from data.reading import DamagedError

BLOCK_BYTES = 1 << 17
_QUOTE, _LF, _CR = b'"\n\r'


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


def whole_rows(ahead: bytes, *, is_last: bool) -> int:
    """Bytes of the rows that end in it, or 0 where none does or a CR is no line end."""
    end = len(ahead) if is_last else _last_row_end(ahead)
    if not end:
        return 0
    content = np.frombuffer(ahead, np.uint8, end)
    after_returns = content.take(np.flatnonzero(content == _CR) + 1, mode="clip")
    return end if (after_returns == _LF).all() else 0


def _last_row_end(ahead: bytes) -> int:
    """Behind the last line end that has as many quotation marks before it as are in pairs."""
    end = ahead.rfind(b"\n") + 1
    if b'"' not in ahead:
        return end
    marks = np.flatnonzero(np.frombuffer(ahead, np.uint8) == _QUOTE)
    while (before := int(np.searchsorted(marks, end))) % 2:
        end = ahead.rfind(b"\n", 0, int(marks[before - 1])) + 1
    return end


def parsed(rows: bytes, *, delimiter: str) -> Iterable[list[str]] | None:
    """The fields of `whole_rows`, blank lines left out and bytes that are no UTF-8 as lone surrogates.

    None where a quotation mark is not where RFC 4180 has it.
    """
    if b'"' not in rows:
        return _plain_rows(rows, delimiter)
    return _quoted_rows(rows.decode("utf-8", "surrogateescape").split('"'), delimiter)


def _plain_rows(rows: bytes, delimiter: str) -> Iterator[list[str]]:
    """Of rows without quotation marks."""
    for line in io.BytesIO(rows):  # which finds the ends of long lines faster than `split` does
        fields = line.decode("utf-8", "surrogateescape").split(delimiter)
        fields[-1] = fields[-1].rstrip("\r\n")
        if fields != [""]:
            yield fields


def _quoted_rows(parts: list[str], delimiter: str) -> list[list[str]] | None:
    """Of what quotation marks part: the odd parts are within two of them, and an empty one between is a pair."""
    rows: list[list[str]] = []
    fields: list[str] = []  # of the row that is open
    quoted: list[str] = []  # of the field that is open, between pairs
    last = len(parts) - 1
    if last % 2 or not _are_placed(parts[::2], delimiter):
        return None
    for at, part in enumerate(parts):
        if at % 2:
            quoted.append(part)
            continue
        if not part and 0 < at < last:
            continue
        if at:
            fields.append('"'.join(quoted))
            quoted = []
        *ended, begun = part.replace("\r\n", "\n").split("\n")
        for line in ended:
            if fields or line:
                rows.append(_continued(fields, line.split(delimiter)))
            fields = []
        if fields or begun or at < last:
            fields = _continued(fields, begun.split(delimiter))
        if at < last:
            fields.pop()  # where the quoted field goes
    return [*rows, fields] if fields else rows


def _are_placed(outside: list[str], delimiter: str) -> bool:
    """Whether what is in quotation marks is all of its field; pairs have nothing between."""
    opens, closes = (delimiter, "\n"), (delimiter, "\n", "\r")
    return all(part.endswith(opens) for part in outside[:-1] if part) and all(
        part.startswith(closes) for part in outside[1:] if part
    )


def _continued(fields: list[str], values: list[str]) -> list[str]:
    """A row's fields with what follows the quoted one."""
    return fields + values[1:] if fields else values
