"""Reads files of columns of every type under damage, seed after seed; for a process of its own, which it may end.

`python -m tests.data.damaging KIND SEEDS FOLDER` prints each seed before it begins, and last how many there were.
"""

import io
import random
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.files import local_file
from data.readers import read_file
from data.readers.parts import pieces_of, read_piece, spans_of, survey
from data.reading import ReadRules
from tests.data.outcomes import counted

NUM_ROWS, AT_ONCE = 40, 13
NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def columns() -> dict[str, Any]:
    """Of the types that Parquet and Arrow share."""
    rows = range(NUM_ROWS)
    texts = [f"Text number {k}: the water turns the wheel, and the wheel {k * k} stones." for k in rows]
    lists = [[[k], [k, None]] if k % 3 else None for k in rows]
    return {
        "text": texts,
        "large": pa.array(texts, pa.large_string()),
        "url": [f"http://{k % 5}" if k % 7 else None for k in rows],
        "tags": [["a", "bb"] * (k % 3) for k in rows],
        "nested": [{"x": k, "y": {"z": str(k)}} if k % 4 else None for k in rows],
        "map": pa.array([[("k", k)] for k in rows], pa.map_(pa.string(), pa.int32())),
        "lists": pa.array(lists, pa.list_(pa.list_(pa.int16()))),
        "pairs": pa.array([[k, k] for k in rows], pa.list_(pa.int8(), 2)),
        "half": [k / 2 for k in rows],
        "even": [k % 2 == 0 for k in rows],
        "day": [date(2000, 1, 1 + k % 28) for k in rows],
        "at": [datetime(2000, 1, 1 + k % 28, tzinfo=UTC) for k in rows],
        "price": [Decimal(k) / 4 for k in rows],
        "bytes": [bytes([k]) * k for k in rows],
        "fixed": pa.array([bytes([k]) * 4 for k in rows], pa.binary(4)),
        "class": pa.array([f"c{k % 3}" for k in rows]).dictionary_encode(),
    }


def arrow_columns() -> dict[str, Any]:
    """Of the types that Arrow alone has."""
    rows = range(NUM_ROWS)
    kinds, numbers = pa.array([k % 2 for k in rows], pa.int8()), pa.array(rows)
    texts = pa.array([str(k) for k in rows])
    places = pa.array([k // 2 for k in rows], pa.int32())
    return {
        "view": pa.array([f"a text that is longer than twelve bytes, {k}" for k in rows], pa.string_view()),
        "list_view": pa.array([[k] for k in rows], pa.list_view(pa.int32())),
        "either": pa.UnionArray.from_sparse(kinds, [numbers, texts]),
        "dense": pa.UnionArray.from_dense(kinds, places, [numbers, texts]),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([10, NUM_ROWS], pa.int32()), ["p", "q"]),
        "duration": pa.array(rows, pa.duration("s")),
        "nothing": pa.nulls(NUM_ROWS),
    }


def files(kind: str) -> list[bytes]:
    """Whole ones, of several compressions and sets of columns."""
    plain, rich = pa.table({"text": columns()["text"]}), pa.table(columns())
    if kind == "parquet":
        options: list[dict[str, Any]] = [
            {},
            {"compression": "none", "use_dictionary": False},
            {"compression": "zstd", "data_page_version": "2.0"},
            {"compression": "none", "use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
            {"store_schema": False, "write_page_index": True, "write_page_checksum": True},
        ]
        return [_parquet(table, each) for table in (plain, rich) for each in options]
    tables = (plain, rich.drop_columns("class"), rich, pa.table(columns() | arrow_columns()))
    return [_arrow(kind, table, each) for table in tables for each in (None, "lz4", "zstd")]


def _parquet(table: pa.Table, options: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=AT_ONCE, **options)
    return sink.getvalue()


def _arrow(kind: str, table: pa.Table, compression: str | None) -> bytes:
    sink, options = io.BytesIO(), pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(
        sink, table.schema, options=options
    ) as writer:
        writer.write_table(table, max_chunksize=AT_ONCE)
    return sink.getvalue()


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One to four places of a file cut, dropped, repeated, or set to what numbers are at their ends."""
    broken = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not broken:
            break
        first = (
            0 if chance.random() < 0.5 else max(0, len(broken) - 3000)
        )  # footers are small, and hold the most
        place = chance.randrange(first, len(broken))
        match chance.choice(["flip", "flip", "flip", "number", "number", "cut", "drop", "zero", "repeat"]):
            case "flip":
                broken[place] ^= 1 << chance.randrange(8)
            case "number":
                width = chance.choice([1, 2, 4, 8])
                value = chance.choice([*NUMBERS, chance.getrandbits(20), chance.getrandbits(64)])
                broken[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
            case "cut":
                del broken[place:]
            case "drop":
                del broken[place : place + chance.randint(1, 40)]
            case "zero":
                broken[place : place + 20] = bytes(len(broken[place : place + 20]))
            case "repeat":
                broken[place:place] = broken[place : place + chance.randint(1, 30)]
    return bytes(broken)


def main(kind: str, num_seeds: int, folder: Path) -> None:
    whole, rules, path = files(kind), ReadRules(), folder / f"f.{kind}"
    for seed in range(num_seeds):
        sys.stdout.write(f"{seed}\n")
        sys.stdout.flush()
        chance = random.Random(seed)
        path.write_bytes(damaged(chance.choice(whole), chance))
        file = local_file(path)
        found = counted(list(read_file(file, rules=rules)))
        assert found.unreadable or found.num_rows == NUM_ROWS, (
            f"seed {seed}: rows are lost without a word: {found}"
        )
        spans = spans_of([file], rules=rules, part_bytes=700)
        counts = [survey(span, rules=rules, part_bytes=700) for span in spans]
        pieces = pieces_of([file], spans, counts)
        parted = counted([item for piece in pieces for item in read_piece(piece, rules=rules)])
        assert parted == found, f"seed {seed}: {parted} in parts, {found} whole"
    sys.stdout.write(f"{num_seeds}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
