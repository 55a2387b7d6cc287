"""Token shards: Arrow IPC files, one row per document or example, read as one long array without a copy."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.errors import DataError
from data.ipc import (
    BatchWriter,
    MappedBatches,
    MappedFile,
    Place,
    batches_of,
    check_columns,
    name_of,
    open_batches,
)
from data.packing import FlatArray

FORMAT_VERSION = "1"
MAX_UINT16_VOCAB = 1 << 16


@dataclass(frozen=True)
class TokenFormat:
    """What a shard's Arrow schema says of its tokens; shards that are read together must agree on all of it."""

    tokenizer_hash: str
    "Hash of the tokenizer that made the ids."
    vocab_size: int
    "Ids lie in [0, vocab_size)."
    eos_id: int
    "The id that ends each document or example."
    has_loss_mask: bool = False
    "Whether rows carry a mask of the tokens that are targets (examples) or every token is one (documents)."

    @property
    def id_type(self) -> pa.DataType:
        return pa.uint16() if self.vocab_size <= MAX_UINT16_VOCAB else pa.uint32()

    def schema(self) -> pa.Schema:
        columns = [("id", pa.string()), ("source", pa.string()), ("num_bytes", pa.int64())]
        columns.append(("input_ids", pa.list_(self.id_type)))
        if self.has_loss_mask:
            columns.append(("loss_mask", pa.list_(pa.uint8())))
        facts = {"eos_id": self.eos_id, "format_version": FORMAT_VERSION}
        facts |= {"tokenizer_hash": self.tokenizer_hash, "vocab_size": self.vocab_size}
        return pa.schema(columns, metadata={name: str(value) for name, value in facts.items()})

    @classmethod
    def of(cls, schema: pa.Schema, *, place: Place) -> "TokenFormat":
        """What the schema of a shard says; `DataError` where it says nothing or another format version."""
        facts = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        if facts.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"this is not a token shard of format {FORMAT_VERSION}",
                where=name_of(place),
                allowed=f"an Arrow IPC file whose schema says format_version {FORMAT_VERSION}",
                do="name the artifact of a tokenize stage, or tokenize again",
            )
        has_loss_mask = "loss_mask" in schema.names
        return cls(facts["tokenizer_hash"], int(facts["vocab_size"]), int(facts["eos_id"]), has_loss_mask)

    def require(self, found: "TokenFormat", *, path: Path, first: Path) -> None:
        """Raise `DataError` where a shard at `path`, to be read with the one at `first`, is of another format."""
        if found != self:
            raise DataError(
                f"the shards disagree: {found} here, {self} in {first}",
                where=str(path),
                allowed="shards of one tokenizer and one kind",
                do="read artifacts of one tokenize configuration together",
            )

    def require_tokenizer(self, wanted: str, *, place: Place) -> None:
        """Raise `DataError` where another tokenizer than that of hash `wanted` made the ids."""
        if self.tokenizer_hash != wanted:
            raise DataError(
                f"the tokens were made by tokenizer {self.tokenizer_hash}",
                where=name_of(place),
                allowed=f"tokens of tokenizer {wanted}",
                do="tokenize with the tokenizer that the model is trained with",
            )


class TokenRow(NamedTuple):
    """One document or example as tokens."""

    id: str
    source: str
    num_bytes: int  # UTF-8 bytes of the text that the loss covers: the document, or the example's response
    input_ids: NDArray[np.integer]  # [num_tokens], the last is eos_id
    loss_mask: NDArray[np.uint8] | None = None  # [num_tokens], 1 where the token is a target


class TokenWriter:
    """Writes one shard, a record batch in memory at a time; rows are not empty, ids fit the vocabulary."""

    def __init__(self, place: Place, *, token_format: TokenFormat) -> None:
        self.format = token_format
        self.num_tokens = 0
        self._writer = BatchWriter(place, schema=token_format.schema(), to_arrays=self._to_arrays)

    @property
    def num_rows(self) -> int:
        return self._writer.num_rows

    def write(self, row: TokenRow) -> None:
        assert len(row.input_ids), f"{row.id}: a row of tokens has at least its end-of-text id"
        assert (row.loss_mask is not None) == self.format.has_loss_mask, (
            f"{row.id}: loss_mask against the format"
        )
        self.num_tokens += len(row.input_ids)
        self._writer.write(row, num_bytes=len(row.input_ids) * 4 + len(row.id) + len(row.source) + 8)

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def _to_arrays(self, rows: list[TokenRow]) -> list[pa.Array]:
        ids, sources, num_bytes, input_ids, masks = zip(*rows, strict=True)
        offsets = np.concatenate(([0], np.cumsum([len(tokens) for tokens in input_ids]))).astype(np.int32)
        flat = np.concatenate(input_ids)
        assert 0 <= flat.min() <= flat.max() < self.format.vocab_size, "a token id outside of the vocabulary"
        arrays = [pa.array(ids, pa.string()), pa.array(sources, pa.string()), pa.array(num_bytes, pa.int64())]
        arrays.append(_lists(offsets, flat.astype(self.format.id_type.to_pandas_dtype(), copy=False)))
        if self.format.has_loss_mask:
            arrays.append(_lists(offsets, np.concatenate(masks).astype(np.uint8, copy=False)))
        return arrays


def _lists(offsets: NDArray[np.int32], values: NDArray[np.generic]) -> pa.Array:
    assert offsets[-1] == len(values), "as many mask values as token ids"
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def read_tokens(place: Place) -> Iterator[TokenRow]:
    """The rows of one shard in order, their ids views of the mapped file."""
    reader = open_batches(place, kind="tokens")
    token_format = TokenFormat.of(reader.schema, place=place)
    check_columns(reader, schema=token_format.schema(), kind="tokens", place=place)
    for batch in batches_of(reader):
        names, sources, sizes = (batch.column(name).to_pylist() for name in ("id", "source", "num_bytes"))
        columns = ["input_ids", "loss_mask"] if token_format.has_loss_mask else ["input_ids"]
        for row, (name, source, size) in enumerate(zip(names, sources, sizes, strict=True)):
            arrays = [batch.column(column)[row].values.to_numpy() for column in columns]
            yield TokenRow(name, source, size, *arrays)


class TokenShards:
    """All shards of an artifact, memory-mapped, as one concatenation in the order of `paths`.

    Raises `DataError` where a file is not a shard, where shards disagree, or where their tokenizer is not
    `tokenizer_hash` (when given). Opening costs O(record batches); nothing is read until it is asked for.
    Pickles as its paths.
    """

    def __init__(self, paths: Sequence[Path], *, tokenizer_hash: str | None = None) -> None:
        if not paths:
            raise DataError("there are no token shards", allowed="at least one tokens-*.arrow file")
        self.paths: tuple[Path, ...] = ()
        self.format = TokenFormat.of(open_batches(paths[0], kind="tokens").schema, place=paths[0])
        self.tokens = FlatArray([], dtype=self.format.id_type.to_pandas_dtype())
        self.loss_mask = FlatArray([], dtype=np.uint8) if self.format.has_loss_mask else None
        self._tokenizer_hash = tokenizer_hash
        self._batches = MappedBatches([])
        self._first_rows = np.zeros(1, dtype=np.int64)
        self._offsets: list[NDArray[np.generic]] = []
        self.add(paths)

    def add(self, paths: Sequence[Path]) -> None:
        """Lay more shards behind those that are there; what was read before stays as it was."""
        files = [MappedFile(path, kind="tokens") for path in paths]
        for path, file in zip(paths, files, strict=True):
            self._check(path, file.reader, first=(*self.paths, *paths)[0])
        self.paths += tuple(paths)
        more = MappedBatches(files)
        self._batches.extend(more)
        last_rows = self._first_rows[-1] + np.cumsum([batch.num_rows for batch in more], dtype=np.int64)
        self._first_rows = np.append(self._first_rows, last_rows)
        self.tokens.add(more.views(lambda batch: batch.column("input_ids").flatten()))
        if self.loss_mask is not None:
            self.loss_mask.add(more.views(lambda batch: batch.column("loss_mask").flatten()))
        self._offsets += more.views(lambda batch: batch.column("input_ids").offsets)
        for derived in ("row_starts", "num_bytes"):
            self.__dict__.pop(derived, None)

    def __reduce__(self) -> tuple[object, ...]:
        return TokenShards, (self.paths,)

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @property
    def num_rows(self) -> int:
        return int(self._first_rows[-1])

    @cached_property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all texts that the loss covers: what bits per byte are divided by."""
        return sum(int(batch.column("num_bytes").to_numpy().sum()) for batch in self._batches)

    @cached_property
    def row_starts(self) -> NDArray[np.int64]:
        """[num_rows + 1]: row r is the tokens [row_starts[r], row_starts[r + 1]) of the concatenation."""
        return np.concatenate([np.zeros(1, np.int64), *(starts[1:] for starts in self.starts_by_batch())])

    def starts_by_batch(self) -> Iterator[NDArray[np.int64]]:
        """`row_starts` of one record batch after another, each with its end: for whoever need not hold them all."""
        for offsets, first in zip(self._offsets, self.tokens.starts[:-1], strict=True):
            yield offsets.astype(np.int64) + (first - int(offsets[0]))

    def row_of(self, token: int) -> int:
        """The row that a token of the concatenation is in."""
        return self.starts_within(token + 1, token + 2)[0] - 1

    def starts_within(self, begin: int, end: int) -> tuple[int, NDArray[np.int64]]:
        """The first row that begins at token `begin` or later, and where those begin that do so before `end` > `begin`.

        Looked up in the mapped files, for whoever needs a few of `row_starts` and not an array of them all.
        """
        batch = max(0, min(bisect_right(self.tokens.starts, begin), len(self._batches)) - 1)
        first, found = self.num_rows, []
        while batch < len(self._batches) and self.tokens.starts[batch] < end:
            offsets = self._offsets[batch]
            shift = self.tokens.starts[batch] - int(offsets[0])
            low, high = (bisect_left(offsets, place - shift, hi=len(offsets) - 1) for place in (begin, end))
            first = min(first, int(self._first_rows[batch]) + low)
            found.append(offsets[low:high].astype(np.int64) + shift)
            batch += 1
        return first, np.concatenate([np.empty(0, np.int64), *found])

    def row_name(self, row: int) -> str:
        """The document or example id of a row, for whoever must name it to a person."""
        assert 0 <= row < self.num_rows, f"row {row} of {self.num_rows}"
        batch = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        return str(self._batches[batch].column("id")[row - int(self._first_rows[batch])].as_py())

    def _check(self, path: Path, reader: pa.RecordBatchFileReader, *, first: Path) -> None:
        found = TokenFormat.of(reader.schema, place=path)
        if self._tokenizer_hash is not None:
            found.require_tokenizer(self._tokenizer_hash, place=path)
        self.format.require(found, path=path, first=first)
        check_columns(reader, schema=found.schema(), kind="tokens", place=path)
