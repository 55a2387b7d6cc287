"""A JSON file of one array of objects, or of one object, read an element at a time.

The array is never in memory as a whole: a window of text slides over it, and the C decoder of `json` reads each
element out of the window, which grows where an element does not end in it.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from data.documents import Document
from data.readers.lines import damage, json_row
from data.reading import DamagedError, ReadRules, Reason, Unreadable, too_large

WINDOW_BYTES = 1 << 18
_SPACE = re.compile(r"[ \t\n\r]*")
_STRUCTURE = re.compile(r'[^"\[\]{},]*+(?:(["\[\]{},])|\Z)')
_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_decode = json.JSONDecoder().raw_decode


def read_json(stream: BinaryIO, name: str, rules: ReadRules) -> Iterator[Document | Unreadable]:
    """A document per element, numbered from 0; what follows a break in the array itself is one outcome."""
    elements, row = _Elements(stream, rules), 0
    try:
        for element in elements:
            if isinstance(element, _BrokenError):
                large = element.reason is Reason.TOO_LARGE
                yield (
                    too_large(name, row, rules)
                    if large
                    else Unreadable(name, row, element.reason, str(element))
                )
            else:
                yield json_row(element, name, row, rules)
            row += 1
    except _BrokenError as error:
        yield Unreadable(name, row, error.reason, str(error))
    except (DamagedError, OSError) as error:
        yield damage(error, name, row)


class _BrokenError(ValueError):
    """An element that is none, or, when raised, the rest of a file."""

    def __init__(self, detail: str, reason: Reason = Reason.BAD_JSON) -> None:
        super().__init__(detail)
        self.reason = reason


class _Elements:
    """Iterates over the elements of the outermost array."""

    def __init__(self, stream: BinaryIO, rules: ReadRules) -> None:
        self._stream, self._most = stream, rules.max_document_bytes
        # Bytes that are no UTF-8 become lone surrogates, which cost the element that they stand in and no other.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._window, self._at, self._ended = "", 0, False

    def __iter__(self) -> Iterator[object]:
        first = self._peek()
        if not first:
            raise _BrokenError("the file is empty", Reason.EMPTY)
        if first != "[":
            yield self._element(closing="")
        else:
            yield from self._array()
        if self._peek():
            raise _BrokenError("more follows; objects one per line are read with rules.format=jsonl")

    def _array(self) -> Iterator[object]:
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._element(closing=",]")
            mark = self._peek()
            self._at += 1
            if mark == "]":
                return
            if mark != ",":
                raise _BrokenError(
                    "the array does not end" if not mark else f"{mark!r} where a comma or ] must be"
                )

    def _element(self, closing: str) -> object:
        """The value that begins here; an element that is no value is skipped up to the comma or bracket behind it."""
        self._peek()
        while True:
            try:
                value, end = _decode(self._window, self._at)
            except (ValueError, RecursionError) as error:
                if not self._may_go_on(error):
                    return self._skip(_BrokenError(str(error)), closing)
            else:
                # a number at the window's end may have more digits
                if self._ended or _SPACE.match(self._window, end).end() < len(self._window):  # type: ignore[union-attr]
                    is_large, self._at = end - self._at > self._most, end
                    return _BrokenError("", Reason.TOO_LARGE) if is_large else value
            if len(self._window) - self._at > self._most:
                return self._skip(_BrokenError("", Reason.TOO_LARGE), closing)
            self._grow()

    def _may_go_on(self, error: Exception) -> bool:
        """Whether the window's end alone may be what is wrong."""
        if self._ended or not isinstance(error, json.JSONDecodeError):
            return False
        return error.pos > len(self._window) - 16 or error.msg.startswith("Unterminated")

    def _skip(self, broken: _BrokenError, closing: str) -> _BrokenError:
        """Pass over an element by its brackets and strings alone, a window in memory.

        Raises `broken` where nothing in the file ends it.
        """
        depth = 0
        while mark := self._next_mark():
            if depth == 0 and mark in closing:
                self._at -= 1
                return broken
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark, 0)
            if mark == '"' and not self._pass_string():
                break
            if depth < 0:
                break
        raise broken

    def _next_mark(self) -> str:
        """The next quote, bracket or comma, passed over; empty at the end of the file."""
        while True:
            found = _STRUCTURE.match(self._window, self._at)
            assert found
            self._at = found.end()
            if mark := found.group(1):
                return str(mark)
            if self._ended:
                return ""
            self._grow()

    def _pass_string(self) -> bool:
        """Go behind the quote that ends a string; false where none does."""
        while True:
            self._at = _STRING.match(self._window, self._at).end()  # type: ignore[union-attr]
            if self._window.startswith('"', self._at):
                self._at += 1
                return True
            if self._ended:
                return False
            self._grow()

    def _peek(self) -> str:
        """The next character that is not white space; empty at the end of the file."""
        while True:
            self._at = _SPACE.match(self._window, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._window) or self._ended:
                return self._window[self._at : self._at + 1]
            self._grow()

    def _grow(self) -> None:
        """Drop what is behind, and read as much again as is still held."""
        content = self._stream.read(max(WINDOW_BYTES, len(self._window) - self._at))
        self._ended = not content
        self._window = self._window[self._at :] + self._decoder.decode(content, final=self._ended)
        self._at = 0
