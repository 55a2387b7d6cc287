"""The safetensors format, written as a stream: no second copy of the tensors in memory, a digest as they pass."""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline.dag.folder import Folder

ITEM_BYTES = 4


def write_tensors(folder: Folder, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write fp32 tensors [N] to one file, in the order given; its size in bytes and its SHA-256."""
    header = _header(tensors)
    total = hashlib.sha256()
    size = 0
    with folder.writing(name) as sink:
        for content in _contents(header, tensors):
            sink.write(content)
            total.update(content)
            size += len(content)
    return {"size": size, "sha256": total.hexdigest()}


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Length as uint64, then JSON with dtype, shape and place of each tensor, padded to 8 bytes."""
    entries, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * ITEM_BYTES
        entries[name] = {"dtype": "F32", "shape": [tensor.numel()], "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _contents(header: bytes, tensors: Mapping[str, Tensor]) -> Any:
    yield header
    for tensor in tensors.values():
        yield tensor.cpu().contiguous().numpy().data.cast("B")
