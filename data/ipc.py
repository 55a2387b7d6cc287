"""Arrow IPC files in bounded record batches: the ground under documents, examples and tokens.

Memory does not grow with the file: a writer holds one record batch, a reader maps the file and hands out views.
The same rows give the same bytes: batches end by the rows' own sizes alone, nothing is compressed, and no clock,
path or version is written.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, Self, TypeVar, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.errors import DataError

BATCH_BYTES = (
    4 << 20
)  # of text or tokens; large enough that a batch's fixed cost (about 50 us to open) is nothing
BATCH_ROWS = 1 << 15

# A local path, or an open binary file: `io.BytesIO`, or a pyarrow stream of an object store (untyped, so not named).
Place = Path | BinaryIO
Row = TypeVar("Row")


class BatchWriter(Generic[Row]):
    """Writes rows to one Arrow IPC file; `to_arrays` turns a full batch of rows into columns.

    A context manager: the file is whole only when the block ends well. An open file given as `place` stays open.
    """

    def __init__(
        self, place: Place, *, schema: pa.Schema, to_arrays: Callable[[list[Row]], list[pa.Array]]
    ) -> None:
        self.num_rows = 0
        self._schema, self._to_arrays = schema, to_arrays
        self._file = pa.OSFile(str(place), "wb") if isinstance(place, Path) else None
        self._writer = pa.ipc.new_file(place if self._file is None else self._file, schema)
        self._rows: list[Row] = []
        self._held_bytes = 0

    def write(self, row: Row, *, num_bytes: int) -> None:
        """Add a row; `num_bytes` is about what it takes in memory."""
        if self._rows and self._held_bytes + num_bytes > BATCH_BYTES:
            self._flush()
        self._rows.append(row)
        self._held_bytes += num_bytes
        self.num_rows += 1
        if len(self._rows) == BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._file is not None:
            self._file.close()  # no footer: a reader refuses what was not finished

    def _flush(self) -> None:
        self._writer.write_batch(pa.record_batch(self._to_arrays(self._rows), schema=self._schema))
        self._rows, self._held_bytes = [], 0

    def _release(self) -> None:
        self._writer.close()
        if self._file is not None:
            self._file.close()


def open_batches(place: Place, *, kind: str) -> pa.RecordBatchFileReader:
    """A random-access reader of record batches; a local path is memory-mapped and read without a copy.

    Raises `DataError` where `place` is missing or is not a whole Arrow IPC file; `kind` names what was expected.
    """
    with _whole(place, kind):
        return pa.ipc.open_file(pa.memory_map(str(place)) if isinstance(place, Path) else place)


@contextmanager
def _whole(place: Place, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"this is not a whole file of {kind}: {error}",
            where=name_of(place),
            allowed="an Arrow IPC file that its writer closed",
            do="delete it and write it again",
        ) from error


class MappedFile:
    """A local file of record batches; raises as `open_batches` does.

    Arrow's objects take some kilobytes for each record batch, and a corpus has many: so none is kept, and `view` gives
    arrays that hold on to the mapped file alone.
    """

    def __init__(self, path: Path, *, kind: str) -> None:
        with _whole(path, kind):
            source = pa.memory_map(str(path))
            self.reader = pa.ipc.open_file(source)
            self._bytes = np.frombuffer(source.read_buffer(), np.uint8)

    def view(self, values: pa.Array) -> NDArray[np.generic]:
        """Numbers of one of its batches, as numpy."""
        found: NDArray[np.generic] = values.to_numpy(zero_copy_only=True)
        if not len(found):
            return found
        start = found.__array_interface__["data"][0] - self._bytes.__array_interface__["data"][0]
        assert 0 <= start <= len(self._bytes) - found.nbytes, "an array of another file"
        return self._bytes[start : start + found.nbytes].view(found.dtype)


class MappedBatches(Sequence[pa.RecordBatch]):
    """The record batches of some files that have rows, each opened when it is asked for, in some 50 us."""

    def __init__(self, files: Sequence[MappedFile]) -> None:
        batches = ((file, number) for file in files for number in range(file.reader.num_record_batches))
        self._places = [each for each in batches if self._open(each).num_rows]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> pa.RecordBatch: ...

    @overload
    def __getitem__(self, index: slice) -> list[pa.RecordBatch]: ...

    def __getitem__(self, index: int | slice) -> pa.RecordBatch | list[pa.RecordBatch]:
        found = self._places[index]
        return [*map(self._open, found)] if isinstance(found, list) else self._open(found)

    def extend(self, others: "MappedBatches") -> None:
        """Go on with those of more files."""
        self._places += others._places  # noqa: SLF001 - its own kind

    def views(self, values: Callable[[pa.RecordBatch], pa.Array]) -> list[NDArray[np.generic]]:
        """Some numbers of each batch, as arrays of the mapped files."""
        return [place[0].view(values(self._open(place))) for place in self._places]

    @staticmethod
    def _open(place: tuple[MappedFile, int]) -> pa.RecordBatch:
        return place[0].reader.get_batch(place[1])


def check_columns(reader: pa.RecordBatchFileReader, *, schema: pa.Schema, kind: str, place: Place) -> None:
    """Raise `DataError` unless the file has exactly the columns of `schema`; schema metadata is not compared."""
    if not reader.schema.equals(schema):
        raise DataError(
            f"the file does not hold {kind}: its columns are {columns_of(reader.schema)}",
            where=name_of(place),
            allowed=columns_of(schema),
            do=f"name a file of {kind}, or write it again with this version",
        )


def batches_of(reader: pa.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def columns_of(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def name_of(place: Place) -> str:
    name: Any = place if isinstance(place, Path) else getattr(place, "name", "an open file")
    return str(name)
