"""What readers give, counted: beside the tests that ask for it."""

import bz2
import gzip
import io
import lzma

import pyarrow as pa

from data.documents import Document
from data.readers import read_stream
from data.reading import ReadCounters, ReadRules


def outcomes(content: bytes, name: str = "f.jsonl", **rules) -> list:
    """All outcomes of a file, after a look that the counters add up."""
    found = list(read_stream(io.BytesIO(content), name=name, rules=ReadRules(**rules)))
    counted(found)
    return found


def kinds(found: list) -> list:
    return [item.text if isinstance(item, Document) else item.reason for item in found]


def counted(found: list) -> ReadCounters:
    counters = ReadCounters()
    for item in found:
        counters.add(item)
    assert counters.num_rows == counters.num_documents + counters.unreadable.total()
    assert counters.num_rows == sum(1 if isinstance(item, Document) else item.num_rows for item in found)
    return counters


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS = {
    "gz": lambda content: gzip.compress(content, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}
