"""Documents as tokens: each document's ids and the end-of-text id; a long shard in spans, a long document in pieces."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.documents import open_documents
from data.ipc import Place
from data.shards import TokenRow
from data.tokenizer import Ids, Tokenizer

DOCUMENTS_AT_ONCE = 256  # so that little more than a few texts is in memory as Python's strings
LONG_BYTES = 1 << 20  # a longer document is decoded and encoded a piece at a time


class Span(NamedTuple):
    """A record batch of a shard, or a range of bytes of the only text in one."""

    batch: int
    start: int = 0
    stop: int = -1  # -1: the whole batch

    @property
    def is_continued(self) -> bool:
        """Whether it begins within a document."""
        return self.start > 0


def tokenize_documents(batches: Iterable[pa.RecordBatch], *, tokenizer: Tokenizer) -> Iterator[TokenRow]:
    """A row of tokens per document, in order, a few documents in memory at a time."""
    for batch in batches:
        for start in range(0, batch.num_rows, DOCUMENTS_AT_ONCE):
            yield from _rows(batch.slice(start, DOCUMENTS_AT_ONCE), tokenizer)


def tokenize_spans(place: Place, spans: Sequence[Span], *, tokenizer: Tokenizer) -> Iterator[TokenRow]:
    """Rows of some spans of a shard of documents; a piece of a document is a row without the end-of-text id.

    A piece begins and ends at the first place, from the bytes that its span names on, where a text may be cut. One
    in which there is no such place has no row.
    """
    reader = open_documents(place)
    for span in spans:
        if span.stop < 0:
            yield from tokenize_documents([reader.get_batch(span.batch)], tokenizer=tokenizer)
        elif piece := _piece(reader.get_batch(span.batch), span, tokenizer):
            yield piece


def spans_of(sizes: Sequence[int], rows: Sequence[int], *, num_bytes: int) -> list[list[Span]]:
    """A shard in groups of spans of about `num_bytes` of text, in order.

    Args:
        sizes: bytes of text in each record batch.
        rows: documents in each; a batch is cut only where it has one.
        num_bytes: of a group.
    """
    groups: list[list[Span]] = [[]]
    held = 0
    for batch, (size, num_rows) in enumerate(zip(sizes, rows, strict=True)):
        starts = range(0, size, num_bytes) if num_rows == 1 and size > 2 * num_bytes else range(1)
        for start in starts:
            span = Span(batch, start, min(size, start + num_bytes)) if len(starts) > 1 else Span(batch)
            length = size if span.stop < 0 else span.stop - span.start
            if groups[-1] and held + length > num_bytes:
                groups.append([])
                held = 0
            groups[-1].append(span)
            held += length
    return groups


def joined(rows: Iterable[tuple[TokenRow, bool]]) -> Iterator[TokenRow]:
    """Whole rows out of rows and whether each continues the one before."""
    pieces: list[TokenRow] = []
    for row, is_continued in rows:
        if pieces and not is_continued:
            yield _whole(pieces)
            pieces = []
        pieces.append(row)
    if pieces:
        yield _whole(pieces)


@contextmanager
def one_thread() -> Iterator[None]:
    """`tokenizers` on the calling thread alone: the cores are shared out among workers already."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _rows(batch: pa.RecordBatch, tokenizer: Tokenizer) -> Iterator[TokenRow]:
    column = batch.column("text")
    names, sources = batch.column("id").to_pylist(), batch.column("source").to_pylist()
    sizes: list[int] = pc.binary_length(column).to_numpy().tolist()
    if tokenizer.can_cut and max(sizes) > LONG_BYTES:
        encoded: Iterable[Ids] = (tokenizer.encode_bytes(_content(batch, row)) for row in range(len(sizes)))
    else:
        encoded = tokenizer.encode_batch(column.to_pylist())
    end = np.array([tokenizer.eos_id], dtype=np.uint32)
    for name, source, size, ids in zip(names, sources, sizes, encoded, strict=True):
        yield TokenRow(name, source, size, np.concatenate((ids, end)))


def _piece(batch: pa.RecordBatch, span: Span, tokenizer: Tokenizer) -> TokenRow | None:
    content = _content(batch, 0)
    ids, num_bytes = tokenizer.encode_range(content, span.start, span.stop)
    if span.stop >= len(content):
        ids = np.append(ids, np.uint32(tokenizer.eos_id))
    if not len(ids):
        return None
    return TokenRow(batch.column("id")[0].as_py(), batch.column("source")[0].as_py(), num_bytes, ids)


def _content(batch: pa.RecordBatch, row: int) -> memoryview:
    """The UTF-8 bytes of a document, not copied."""
    return memoryview(batch.column("text")[row].as_buffer())


def _whole(pieces: Sequence[TokenRow]) -> TokenRow:
    if len(pieces) == 1:
        return pieces[0]
    ids = np.concatenate([piece.input_ids for piece in pieces])
    return TokenRow(pieces[0].id, pieces[0].source, sum(piece.num_bytes for piece in pieces), ids)
