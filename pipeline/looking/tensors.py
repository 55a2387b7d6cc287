"""The tensors of safetensors files: names and shapes from the header alone, values only of those that are shown.

The format (github.com/huggingface/safetensors): 8 bytes of little-endian header length, a JSON header with dtype,
shape and byte offsets of each tensor, then the bytes.
"""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import DataError
from pipeline.dag.folder import Folder
from pipeline.dag.store import Manifest

SAFETENSORS = ".safetensors"
LONGEST_HEADER = 100 << 20
"Bytes; the format's own limit."
NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


@dataclass(frozen=True)
class Tensor:
    """One tensor, as the header of its file tells."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    "First byte, from the start of the file."
    end: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def tensors_of(folder: Folder, manifest: Manifest) -> list[Tensor]:
    """Every tensor of an artifact, in the order of its files; no weight is read.

    Raises:
        DataError: a header is damaged.
    """
    names = [file.name for file in manifest.files if file.name.endswith(SAFETENSORS)]
    return [tensor for name in names for tensor in _header(folder, name)]


def root_mean_square(folder: Folder, tensor: Tensor) -> float | None:
    """The size of a typical weight; None for a dtype that is not a float."""
    with folder.opening(tensor.file) as source:
        source.seek(tensor.begin)
        content = source.read(tensor.end - tensor.begin)
    if tensor.dtype == "BF16":  # the upper half of an fp32
        values = (np.frombuffer(content, np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif tensor.dtype in NUMPY:
        values = np.frombuffer(content, NUMPY[tensor.dtype])
    else:
        return None
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if tensor.size else 0.0


def _header(folder: Folder, name: str) -> list[Tensor]:
    try:
        with folder.opening(name) as source:
            (length,) = struct.unpack("<Q", source.read(8))
            header: dict[str, Any] = json.loads(source.read(min(length, LONGEST_HEADER)))
        header.pop("__metadata__", None)
        return [
            Tensor(
                tensor,
                name,
                facts["dtype"],
                tuple(facts["shape"]),
                8 + length + facts["data_offsets"][0],
                8 + length + facts["data_offsets"][1],
            )
            for tensor, facts in sorted(header.items(), key=lambda item: item[1]["data_offsets"][0])
        ]
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise DataError(
            f"the header cannot be read: {error}",
            where=f"{folder.url}/{name}",
            allowed="a whole safetensors file",
            do="delete the artifact, so that it is built again",
        ) from error
