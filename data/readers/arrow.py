"""Reading Arrow IPC into documents: files (Feather 2 is one), and streams (what `datasets` saves).

Arrow does not check what it reads, and a wrong offset in a column of texts ends the process: every batch is validated
before a value of it is touched, and one that inflates too far is not unpacked.
"""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from data.documents import Document
from data.readers.columns import BROKEN, batch_documents, check_names, wanted_columns
from data.readers.compression import inflation
from data.readers.extent import Extent
from data.readers.unpacking import Block, footer_of, unpacked_bytes, unpacked_bytes_at
from data.reading import DamagedError, ReadRules, Reason, Unreadable

MAGIC = b"ARROW1"
"With which a file begins, and a stream does not."
LEAST_BATCH_BYTES = 64
"More than the end mark before a footer and its alignment, and less than the metadata of a batch."
END_MARK_BYTES = (4, 8)
"Before and since Arrow 0.15."


def read_arrow(
    stream: BinaryIO, name: str, rules: ReadRules, extent: Extent
) -> Iterator[Document | Unreadable]:
    """A document per row. A batch of a file that breaks costs itself; one of a stream, all that follows."""
    read = read_file_batches if is_arrow_file(stream) else read_stream_batches
    row = extent.first_row
    for batch in read(stream, extent, rules):
        if isinstance(batch, Exception):
            reason = batch.reason if isinstance(batch, DamagedError) else Reason.CORRUPT_ARROW
            yield Unreadable(name, row, reason, str(batch))
            row += 1  # nobody knows how many it had
            continue
        yield from _checked_batch(batch, name, row, rules)
        row += num_rows_of(batch)


def is_arrow_file(stream: BinaryIO) -> bool:
    stream.seek(0)
    is_file = stream.read(len(MAGIC)) == MAGIC
    stream.seek(0)
    return is_file


def read_file_batches(source: Any, extent: Extent, rules: ReadRules) -> Iterator[pa.RecordBatch | Exception]:
    """The record batches of an IPC file, or what is wrong with one."""
    try:
        check = _FileCheck(source, rules)
        reader = pa.ipc.open_file(source)
        check_names(reader.schema)
        end = reader.num_record_batches if extent.end is None else extent.end
    except (*BROKEN, DamagedError) as error:
        yield error
        return
    for place in range(extent.begin, end):
        try:
            check.batch(place)
            batch = reader.get_batch(place)
        except (*BROKEN, DamagedError) as error:
            yield error
        else:
            yield batch


class _FileCheck:
    """Raises where a footer leaves rows out, and where the dictionaries of an IPC file, or a batch, inflate too far."""

    def __init__(self, source: Any, rules: ReadRules) -> None:
        self._source, self._rules, self._num_bytes = source, rules, source.seek(0, io.SEEK_END)
        self._footer = footer_of(source)
        if abs(self._footer.lost_bytes) >= LEAST_BATCH_BYTES:
            raise EOFError(
                f"{self._footer.lost_bytes} bytes before the footer belong to no batch that it names"
            )
        self._is_compressed = True
        self._check(self._footer.dictionaries)

    def batch(self, place: int) -> None:
        if self._is_compressed:
            self._check(self._footer.batches[place : place + 1])

    def _check(self, blocks: list[Block]) -> None:
        found = [unpacked_bytes_at(self._source, block) for block in blocks]
        self._is_compressed = None not in found  # a writer compresses all or nothing
        _check_inflation(sum(unpacked or 0 for unpacked in found), self._num_bytes, self._rules)


def read_stream_batches(
    source: Any, extent: Extent, rules: ReadRules
) -> Iterator[pa.RecordBatch | Exception]:
    """The record batches of an IPC stream up to the first that is broken, and what is wrong with that."""
    try:
        if extent.begin:
            yield from _from_the_middle(pa.PythonFile(source, "r"), extent)
        else:
            yield from _from_the_beginning(source, extent, rules)
    except (*BROKEN, DamagedError) as error:
        yield error


def _from_the_middle(source: Any, extent: Extent) -> Iterator[pa.RecordBatch]:
    """Of a stream whose batches were all looked at when it was parted."""
    schema = pa.ipc.read_schema(source)
    source.seek(extent.begin)
    while source.tell() < extent.end:
        yield pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)


def _from_the_beginning(source: Any, extent: Extent, rules: ReadRules) -> Iterator[pa.RecordBatch]:
    num_bytes = source.seek(0, io.SEEK_END)
    source.seek(0)
    reader = pa.ipc.open_stream(source)
    check_names(reader.schema)
    is_compressed = True
    while extent.end is None or source.tell() < extent.end:
        position = source.tell()
        is_compressed = is_compressed and _check_next(source, num_bytes, rules)
        source.seek(position)
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            check_stream_end(source, position)
            return
        yield batch


def _check_next(source: Any, num_bytes: int, rules: ReadRules) -> bool:
    """Look at the messages up to the next record batch; whether that is compressed."""
    messages, total = pa.PythonFile(source, "r"), 0
    while True:
        try:
            message = pa.ipc.read_message(messages)
        except BROKEN:  # said by the reader
            return True
        unpacked = unpacked_bytes_of(message)
        total += unpacked or 0
        _check_inflation(total, num_bytes, rules)
        if message.type == "record batch":
            return unpacked is not None


def unpacked_bytes_of(message: Any) -> int | None:
    """What the buffers of a message claim to unpack to; None where they are not compressed."""
    body = message.body
    return unpacked_bytes(message.metadata.to_pybytes(), lambda at: body.slice(at, 8).to_pybytes())


def _check_inflation(unpacked: int, num_bytes: int, rules: ReadRules) -> None:
    if inflates := inflation(unpacked, num_bytes, rules, unit="record batch"):
        raise DamagedError(Reason.INFLATES, inflates)


def check_stream_end(source: Any, position: int) -> None:
    """Raise EOFError unless the mark that ends a stream, and nothing else, stands behind its last batch.

    The mark is optional in Arrow, but every writer that was not killed leaves it: a file cut between two batches is not
    to be taken for a whole one, nor the first of several streams for all of them.
    """
    num_bytes = source.seek(0, io.SEEK_END) - position
    if num_bytes not in END_MARK_BYTES:
        raise EOFError(
            f"{num_bytes} bytes follow the last batch"
            if num_bytes
            else "the stream has no end mark: it may be cut"
        )


def num_rows_of(batch: pa.RecordBatch) -> int:
    """How many rows a batch has; 1 where its columns do not agree with what it says, and so nobody knows."""
    try:
        batch.validate()
    except pa.ArrowException:
        return 1
    return int(batch.num_rows)


def _checked_batch(
    batch: pa.RecordBatch, name: str, first: int, rules: ReadRules
) -> Iterator[Document | Unreadable]:
    wanted = wanted_columns(batch.schema, rules)
    batch = batch if wanted is None else batch.select(wanted)
    try:
        batch.validate()
        _as_bytes(batch).validate(full=True)
    except pa.ArrowException as error:
        num_rows = max(1, num_rows_of(batch))
        yield Unreadable(name, first, Reason.CORRUPT_ARROW, str(error), num_rows=num_rows)
        return
    yield from batch_documents(batch, name, first, rules)


def _as_bytes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its texts as bytes, so that one that is no UTF-8 costs its own row and not the batch."""
    columns = [
        column.view(pa.binary()) if pa.types.is_string(column.type)
        else column.view(pa.large_binary()) if pa.types.is_large_string(column.type)
        else column
        for column in batch.columns
    ]  # fmt: skip
    return pa.record_batch(columns, names=batch.schema.names)
