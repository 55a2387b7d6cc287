"""Rows of data artifacts, decoded: documents, examples and tokens, from any filesystem, a record batch at a time."""

import fnmatch
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.documents import DOCUMENT_SCHEMA
from data.examples import EXAMPLE_SCHEMA
from data.ipc import batches_of, check_columns, open_batches
from data.shards import TokenFormat
from pipeline.dag.store import Artifact
from pipeline.looking.decoding import Decoder
from pipeline.looking.subject import ArtifactPart

ARROW = ".arrow"
PARTS_FIRST = ("train", "validation", "test")
SCHEMAS = {"documents": DOCUMENT_SCHEMA, "examples": EXAMPLE_SCHEMA}
TEXT_FIELDS = {"documents": ("text",), "examples": ("prompt", "response"), "tokens": ("text",)}
RowDict = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """Which rows are wanted."""

    limit: int = 5
    "Rows, at most; >= 0."
    offset: int = 0
    "Matching rows to pass over first; >= 0."
    source: str = ""
    "Glob that the row's source matches; empty: any."
    contains: str = ""
    "Text that the decoded row holds; empty: any."
    reason: str = ""
    "Why the document was dropped; empty: for any reason."

    @property
    def is_filter(self) -> bool:
        return bool(self.source or self.contains or self.reason)

    def matches_source(self, row: RowDict) -> bool:
        return not self.source or fnmatch.fnmatchcase(row["source"], self.source)

    def matches_reason(self, row: RowDict) -> bool:
        return not self.reason or json.loads(row["metadata"])["dropped"] == self.reason

    def matches_text(self, row: RowDict, names: Sequence[str]) -> bool:
        return not self.contains or any(self.contains in row[name] for name in names)


@dataclass
class Rows:
    """The rows of an artifact of documents, examples or tokens, in the order of its parts and shards.

    Each is a dict with part, shard and number (its place in the part), and the columns of the format; tokens also
    have their text, and segments of it by the loss mask.
    """

    subject: ArtifactPart
    decoder: Decoder | None = None
    "Of tokens; None where their tokenizer is gone."
    kept: str = ""
    "A folder of rows that are kept with the artifact and are no content, such as logs/dropped/; empty: the content."
    names: list[str] = field(init=False)
    "The shards."

    def __post_init__(self) -> None:
        manifest = self.artifact.manifest
        files = manifest.files if self.kept else manifest.content(self.subject.part)
        names = [file.name for file in files if file.name.startswith(self.kept) and file.name.endswith(ARROW)]
        self.names = sorted(names, key=_place)

    @property
    def artifact(self) -> Artifact:
        return self.subject.artifact

    @property
    def kind(self) -> str:
        return self.artifact.manifest.kind

    def select(self, query: Query) -> Iterator[RowDict]:
        """The rows wanted. Raises DataError where a shard is damaged."""
        to_skip, left = query.offset, query.limit
        for row in self._matching(query, self._shards(to_skip if not query.is_filter else 0)):
            if query.is_filter and to_skip:
                to_skip -= 1
                continue
            if left == 0:
                return
            left -= 1
            yield row

    def _matching(self, query: Query, found: Iterator[Callable[[], RowDict]]) -> Iterator[RowDict]:
        for read in found:
            row = read()
            if query.matches_source(row) and query.matches_reason(row):
                row = self.decoder.decoded(row) if self.decoder else row
                if query.matches_text(row, TEXT_FIELDS[self.kind]):
                    yield row

    def _shards(self, to_skip: int) -> Iterator[Callable[[], RowDict]]:
        """A reader of each row after the first `to_skip`, which are passed over without being read."""
        numbers: dict[str, int] = {}
        for name in self.names:
            part = name.rpartition("/")[0]
            with self.artifact.folder.opening(name) as source:
                for batch in self._batches(source):
                    first = numbers.get(part, 0)
                    numbers[part] = first + batch.num_rows
                    start, to_skip = min(to_skip, batch.num_rows), max(0, to_skip - batch.num_rows)
                    for index in range(start, batch.num_rows):
                        place = {"part": part, "shard": name, "number": first + index}
                        yield lambda batch=batch, index=index, place=place: (  # type: ignore[misc]
                            place | batch.slice(index, 1).to_pylist()[0]
                        )

    def _batches(self, source: Any) -> Iterator[Any]:
        reader = open_batches(source, kind=self.kind)
        schema = SCHEMAS.get(self.kind)
        if schema is None:
            schema = TokenFormat.of(reader.schema, place=source).schema()
        check_columns(reader, schema=schema, kind=self.kind, place=source)
        return batches_of(reader)

    def token_format(self) -> TokenFormat:
        """What the first shard of an artifact of tokens says of itself."""
        with self.artifact.folder.opening(self.names[0]) as source:
            return TokenFormat.of(open_batches(source, kind="tokens").schema, place=source)


def _place(name: str) -> tuple[int, str]:
    """Training rows come before held-out ones."""
    part = name.partition("/")[0]
    return PARTS_FIRST.index(part) if part in PARTS_FIRST else len(PARTS_FIRST), name
