"""Long tables of numbers that are kept in a file, not in memory: the system reads in what is looked at."""

import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.errors import DataError


class SpilledArray:
    """One-dimensional, written in parts and then read; its file has no name and goes with the process."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(prefix="headrace-")  # noqa: SIM115 - mapped for as long as it is
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, values: NDArray[np.generic] | Sequence[int]) -> None:
        """Lay more behind what is there; `DataError` where the file system has no room for it."""
        more = np.asarray(values, self._dtype)
        try:
            self._file.write(more.data)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"the places of {self._length + len(more)} pieces of text cannot be kept: {error.strerror}",
                where=tempfile.gettempdir(),
                allowed="room for some 24 bytes a document, on each rank",
                do="free some, or set TMPDIR to a folder that has it",
            ) from error
        self._length += len(more)

    def mapped(self) -> NDArray[np.generic]:
        """What is there now, as an array of the mapped file."""
        if not self._length:
            return np.empty(0, self._dtype)
        return np.memmap(self._file, self._dtype, mode="r", shape=(self._length,))
