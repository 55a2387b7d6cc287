"""Lists that a stage keeps beside its content, Parquet under `logs/`: clusters of duplicates, what met a reference."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pyarrow import parquet
from rich.console import Console
from rich.text import Text

from pipeline.dag.store import LOGS, Artifact
from pipeline.errors import ConfigError, close_match
from pipeline.looking.page import grid, in_words, shortened
from pipeline.looking.rows import Query, RowDict

PARQUET = ".parquet"


def rows_of_list(artifact: Artifact, name: str, query: Query) -> Iterator[RowDict]:
    """The rows of a list that are wanted; `query.contains` looks into every column of text.

    Raises:
        ConfigError: the artifact keeps no such list.
    """
    files = [file.name for file in artifact.manifest.files if file.name.startswith(f"{LOGS}{name}/")]
    if not files:
        kept = lists_of(artifact)
        raise ConfigError(
            f'{artifact.manifest.stage}/{artifact.manifest.key[:12]} keeps no list "{name}"',
            where="--list",
            allowed=", ".join(kept) or "none: this artifact keeps no list",
            do=f"{close_match(name, kept)}leave --list out to see the content",
        )
    found = (row for file in files for row in _rows(artifact, file) if _matches(row, query))
    return islice(found, query.offset, query.offset + query.limit)


def lists_of(artifact: Artifact) -> list[str]:
    names = [file.name for file in artifact.manifest.files if file.name.endswith(PARQUET)]
    return sorted({name.split("/")[1] for name in names if name.startswith(LOGS) and name.count("/") > 1})


def print_list(rows: Iterator[RowDict], *, characters: int, console: Console) -> None:
    """A table of the rows; `characters` of each text at most, 0 for all."""
    table = None
    for row in rows:
        table = table or grid(*row)
        table.add_row(*(Text(shortened(in_words(value), characters)) for value in row.values()))
    console.print(table or "no row matches")


def _rows(artifact: Artifact, name: str) -> Iterator[RowDict]:
    with artifact.folder.opening(name) as source:
        for batch in parquet.ParquetFile(source).iter_batches():
            yield from batch.to_pylist()


def _matches(row: dict[str, Any], query: Query) -> bool:
    return not query.contains or any(
        query.contains in value for value in row.values() if isinstance(value, str)
    )
