"""How fast files become documents: against `datasets` in streaming mode, datatrove's readers, and the bare parser.

The same rows (about 300 words, a URL, a number) in each format, in csv also with commas, quotation marks and line ends
in the text; every contender hands out a document a row, with its
metadata. Ours checks each row and counts it, and keeps metadata as JSON. datatrove needs orjson for JSON Lines, so that
it is compared where it is installed. The bare parser is a limit: what Python takes when nobody makes documents.
"""

import csv
import gzip
import importlib.util
import json
import os
import random
import string
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from measure import Contender, Result, arguments, compare, publish

from data.files import local_file
from data.readers import read_file
from data.reading import ReadRules

os.environ["HF_HUB_OFFLINE"] = "1"
SEPARATED = ("csv", "quoted.csv")


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--megabytes", type=int, default=100, help="size of the JSON Lines file (default 100)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        paths = _corpus(Path(temporary), options.megabytes)
        results = [_compared(kind, path, options.repeats) for kind, path in paths.items()]
    return 0 if publish(results, json_file=options.json) else 1


def _compared(kind: str, path: Path, repeats: int) -> Result:
    peers: dict[str, Callable[[], Iterable[Any]]] = {
        "headrace": lambda: read_file(local_file(path), rules=ReadRules()),
        "datasets, streaming": lambda: _datasets(kind, path),
        "bare parser": lambda: _bare(kind, path),
    }
    if kind in {"parquet", *SEPARATED} or importlib.util.find_spec("orjson"):
        peers["datatrove"] = lambda: _datatrove(kind, path)
    contenders = {name: _counting(rows, path) for name, rows in peers.items()}
    size = f"{path.stat().st_size / 1e6:.0f} MB"
    return compare(f"read {path.name}", contenders, unit="MB", repeats=repeats, file=size)


def _counting(rows: Callable[[], Iterable[Any]], path: Path) -> Contender:
    def run() -> float:
        assert sum(1 for _ in rows()) > 1000
        return path.stat().st_size / 1e6

    return run


def _datasets(kind: str, path: Path) -> Iterable[Any]:
    from datasets import load_dataset

    builder = "json" if kind.startswith("jsonl") else kind.removeprefix("quoted.")
    found: Iterable[Any] = load_dataset(builder, data_files=str(path), split="train", streaming=True)
    return found


def _datatrove(kind: str, path: Path) -> Iterable[Any]:
    from datatrove.pipeline.readers.csv import CsvReader
    from datatrove.pipeline.readers.jsonl import JsonlReader
    from datatrove.pipeline.readers.parquet import ParquetReader

    reader = {"parquet": ParquetReader, **dict.fromkeys(SEPARATED, CsvReader)}.get(kind, JsonlReader)
    found: Iterable[Any] = reader(str(path.parent), glob_pattern=path.name)()
    return found


def _bare(kind: str, path: Path) -> Iterator[Any]:
    if kind == "parquet":
        for batch in pq.ParquetFile(path).iter_batches(256):
            yield from batch.to_pylist()
    elif kind in SEPARATED:
        with path.open(encoding="utf-8", newline="") as source:
            yield from csv.DictReader(source)
    else:
        opener = gzip.open if kind.endswith("gz") else open
        with opener(path, "rt", encoding="utf-8") as source:
            yield from map(json.loads, source)


def _corpus(folder: Path, megabytes: int) -> dict[str, Path]:
    paths = {kind: folder / f"rows.{kind}" for kind in ("jsonl", "jsonl.gz", *SEPARATED, "parquet")}
    rows = list(_rows(megabytes * 1_000_000))
    with paths["jsonl"].open("w") as sink:
        sink.writelines(json.dumps(row) + "\n" for row in rows)
    paths["jsonl.gz"].write_bytes(gzip.compress(paths["jsonl"].read_bytes(), 6))
    for kind in SEPARATED:
        with paths[kind].open("w", newline="") as sink:
            writer = csv.DictWriter(sink, list(rows[0]))
            writer.writeheader()
            writer.writerows(_punctuated(row) if kind.startswith("quoted") else row for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), paths["parquet"], row_group_size=10_000)
    return paths


def _punctuated(row: dict[str, object]) -> dict[str, object]:
    """With five commas, two words in quotation marks and three line ends, so that the text is quoted."""
    text = str(row["text"]).replace(" ", ", ", 5).replace(" ", ' "so" ', 2).replace(" ", "\n", 3)
    return row | {"text": text}


def _rows(num_bytes: int) -> Iterator[dict[str, object]]:
    draw = random.Random(0)
    words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(5000)]
    made = 0
    while made < num_bytes:
        text = " ".join(draw.choices(words, k=draw.randint(100, 500)))
        made += len(text) + 60
        yield {"text": text, "id": str(made), "url": f"https://example.org/{made}", "score": made / 7}


if __name__ == "__main__":
    sys.exit(main())
