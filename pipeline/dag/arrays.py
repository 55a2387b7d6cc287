"""Arrays in a folder: what tasks of a stage leave for each other."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dag.folder import Folder


def save_array(folder: Folder, name: str, array: NDArray[Any]) -> None:
    with folder.writing(f"{name}.npy") as sink:
        np.save(sink, array)


def load_array(folder: Folder, name: str) -> Any:
    return np.load(io.BytesIO(folder.read_bytes(f"{name}.npy")))
