"""What Arrow does not look at in a file of Arrow IPC: what a batch would take in memory, and whether all are there.

Arrow unpacks all columns of a batch at once, to whatever size it claims. Each compressed buffer begins with that size:
https://arrow.apache.org/docs/format/Columnar.html (Compression); where the buffers lie is said by flatbuffers, as in
Message.fbs and File.fbs of that format. Numbers are little-endian.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

DICTIONARY, BATCH = 2, 3
"Kinds of a message that have buffers; of Message.fbs its numbers, and of File.fbs the fields of the footer."
TRAILER_BYTES = 10
"Behind the footer of a file: its size, and the magic."
PREFIX_BYTES = 8
"Before the metadata of a message: 0xFFFFFFFF since Arrow 0.15, and its size."
SCHEMA_AT = 8
"In a file, behind the magic."
BUFFER_BYTES, BLOCK_BYTES = 16, 24
"A `Buffer` is offset and length; a `Block` is offset, length of the metadata (padded), and length of the body."
BEYOND = (struct.error, IndexError, OverflowError, ValueError)
"What damaged metadata leads to, and what reads it after us says in words."


class Block(NamedTuple):
    """Where a message of a file lies."""

    offset: int
    metadata_bytes: int
    body_bytes: int


class Footer(NamedTuple):
    """What stands at the end of a file."""

    dictionaries: list[Block]
    batches: list[Block]
    lost_bytes: int
    "Between the schema and the footer, that belong to no message: where there is room for one, its rows are lost."


def unpacked_bytes(metadata: bytes, length_at: Callable[[int], bytes]) -> int | None:
    """Bytes that a message claims to unpack to; None where it is not compressed, 0 where it is damaged.

    Args:
        metadata: the message's flatbuffer.
        length_at: the 8 bytes at an offset of its body.
    """
    try:
        kind, batch = _batch_of(metadata)
        if kind not in (DICTIONARY, BATCH) or not _field(metadata, batch, 3):
            return None
        buffers = _followed(metadata, _field(metadata, batch, 2))
        places = (
            struct.unpack_from("<qq", metadata, buffers + 4 + BUFFER_BYTES * k)
            for k in range(_number(metadata, buffers, "<I"))
        )
        return sum(max(0, _number(length_at(offset), 0, "<q")) for offset, size in places if size > 0)
    except BEYOND:
        return 0


def is_little_endian(metadata: bytes) -> bool:
    """Whether a schema says of the numbers in its batches what is true of nearly all machines."""
    try:
        endianness = _field(metadata, _followed(metadata, _field(metadata, _followed(metadata, 0), 2)), 0)
        return not endianness or _number(metadata, endianness, "<h") == 0
    except BEYOND:
        return False


def footer_of(stream: Any) -> Footer:
    """The footer of an Arrow file; empty where it is damaged beyond reading."""
    try:
        end = stream.seek(-TRAILER_BYTES, 2)
        begin = end - _number(stream.read(4), 0, "<i")
        footer = _read_at(stream, begin, end - begin)
        dictionaries, batches = (_blocks(footer, kind) for kind in (DICTIONARY, BATCH))
        held = sum(block.metadata_bytes + block.body_bytes for block in dictionaries + batches)
        return Footer(dictionaries, batches, begin - _schema_end(stream) - held)
    except (*BEYOND, OSError):
        return Footer([], [], 0)


def _blocks(footer: bytes, kind: int) -> list[Block]:
    field = _field(footer, _followed(footer, 0), kind)
    if not field:
        return []
    blocks = _followed(footer, field)
    return [
        Block(*struct.unpack_from("<qi4xq", footer, blocks + 4 + BLOCK_BYTES * k))
        for k in range(_number(footer, blocks, "<I"))
    ]


def _schema_end(stream: Any) -> int:
    prefix = _prefix_bytes(stream, SCHEMA_AT)
    return SCHEMA_AT + prefix + _number(_read_at(stream, SCHEMA_AT + prefix - 4, 4), 0, "<i")


def unpacked_bytes_at(stream: Any, block: Block) -> int | None:
    """The same as `unpacked_bytes` of a message in a file."""
    try:
        prefix = _prefix_bytes(stream, block.offset)
        metadata = _read_at(stream, block.offset + prefix, block.metadata_bytes - prefix)
        body = block.offset + block.metadata_bytes
        return unpacked_bytes(metadata, lambda at: _read_at(stream, body + at, 8))
    except (*BEYOND, OSError):
        return 0


def _read_at(stream: Any, offset: int, size: int) -> bytes:
    stream.seek(offset)
    return bytes(stream.read(max(0, size)))


def _prefix_bytes(stream: Any, offset: int) -> int:
    return PREFIX_BYTES if _read_at(stream, offset, 4) == b"\xff" * 4 else 4


def _batch_of(metadata: bytes) -> tuple[int, int]:
    """The kind of a message, and the place of its record batch."""
    message = _followed(metadata, 0)
    kind = metadata[_field(metadata, message, 1)]
    header = _followed(metadata, _field(metadata, message, 2))
    return kind, _followed(metadata, _field(metadata, header, 1)) if kind == DICTIONARY else header


def _field(buffer: bytes, table: int, number: int) -> int:
    """The place of a field of a flatbuffer's table; 0 where it is left out."""
    slots = table - _number(buffer, table, "<i")
    slot = 4 + 2 * number
    offset = _number(buffer, slots + slot, "<H") if slot < _number(buffer, slots, "<H") else 0
    return table + offset if offset else 0


def _followed(buffer: bytes, place: int) -> int:
    return place + _number(buffer, place, "<I")


def _number(buffer: bytes, place: int, kind: str) -> int:
    if place < 0:
        raise IndexError(place)
    return int(struct.unpack_from(kind, buffer, place)[0])
