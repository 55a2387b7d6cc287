"""Compressed files as plain streams, inflated a little at a time and never beyond what they may inflate to."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from enum import Enum
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from data.reading import DamagedError, ReadRules, Reason

BUFFER_BYTES = 1 << 17
MOST_MEMORY = 1 << 30
"For the window of an xz file, which its writer chose; 64 MiB at its highest preset."
FREE_BYTES = 1 << 20
"A file that gives no more than this is no bomb, however little it was made from."


class Compression(Enum):
    """A compressed file's suffix, and how its damage is counted."""

    gz = Reason.CORRUPT_GZIP
    bz2 = Reason.CORRUPT_BZ2
    xz = Reason.CORRUPT_XZ
    zst = Reason.CORRUPT_ZST


def inflated(stream: BinaryIO, compression: Compression, *, rules: ReadRules) -> BinaryIO:
    """What a compressed file holds; its reads raise `DamagedError` where the file is broken or inflates too far."""
    num_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    most = max(FREE_BYTES, rules.max_inflation * num_bytes)
    source = _OPENERS[compression](stream) if num_bytes else _NoBytes()
    raw = _Inflated(source, compression, most, rules.max_inflation)
    return io.BufferedReader(raw, BUFFER_BYTES)


def inflation(unpacked: int, num_bytes: int, rules: ReadRules, *, unit: str) -> str:
    """Why a unit of a file of `num_bytes` is too much to unpack, or nothing."""
    if unpacked <= max(FREE_BYTES, rules.max_inflation * num_bytes):
        return ""
    return (
        f"a {unit} inflates to more than {rules.max_inflation} times the file's bytes (rules.max_inflation)"
    )


class _Inflated(io.RawIOBase):
    """Counts what comes out, and says of every error what it means."""

    def __init__(self, source: Any, compression: Compression, most: int, max_inflation: int) -> None:
        self._source, self._compression, self._most = source, compression, most
        self._max_inflation, self._given = max_inflation, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._source.read(len(buffer))
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the archive's
                raise
            raise DamagedError(self._compression.value, str(error)) from error
        self._given += len(content)
        if self._given > self._most:
            limit = f"more than {self._max_inflation} times its own bytes (rules.max_inflation)"
            raise DamagedError(Reason.INFLATES, f"the file inflates to {limit}")
        buffer[: len(content)] = content
        return len(content)


class _NoBytes:
    """What is left of an archive whose writer failed at once: even one of nothing has a header."""

    def read(self, _size: int) -> bytes:
        raise EOFError("the file has no bytes")


class _Decompressor(Protocol):
    """What `bz2` and `lzma` give."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Members:
    """The members of a file one after another.

    `bz2.open` and `lzma.open` take whatever follows the first member and is none for padding, and so lose the rest of
    a file whose second member is damaged; here only zeros are padding.
    """

    def __init__(self, stream: BinaryIO, new: Callable[[], _Decompressor]) -> None:
        self._stream, self._new, self._decompressor = stream, new, new()
        self._rest = b""  # read already, and of the member to come
        self._begun = False

    def read(self, size: int) -> bytes:
        while not self._decompressor.eof or self._next_member():
            content = self._take() if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not content:
                if self._begun:
                    raise EOFError("the file ended before its last member did")
                return b""
            self._begun = True
            if given := self._decompressor.decompress(content, size):
                return given
        return b""

    def _take(self) -> bytes:
        content, self._rest = self._rest or self._stream.read(BUFFER_BYTES), b""
        return content

    def _next_member(self) -> bool:
        """Begin the member that follows, if one does."""
        self._rest = self._decompressor.unused_data.lstrip(b"\0")
        while not self._rest:
            content = self._stream.read(BUFFER_BYTES)
            if not content:
                return False
            self._rest = content.lstrip(b"\0")
        self._decompressor = self._new()
        return True


_OPENERS: dict[Compression, Callable[[BinaryIO], Any]] = {
    Compression.gz: lambda stream: gzip.GzipFile(fileobj=stream),
    Compression.bz2: lambda stream: _Members(stream, bz2.BZ2Decompressor),
    Compression.xz: lambda stream: _Members(stream, lambda: lzma.LZMADecompressor(memlimit=MOST_MEMORY)),
    Compression.zst: lambda stream: pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd"),
}
