"""`ingest`: files from outside become documents with stable ids."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from data.documents import Document, DocumentWriter
from data.errors import DataError
from data.files import SourceFile, list_files
from data.ids import count_repeated, id_hashes
from data.readers.parts import (
    SURVEY_BYTES,
    Count,
    Piece,
    Span,
    file_of,
    grouped,
    pieces_of,
    read_piece,
    spans_of,
    survey,
)
from data.reading import ReadCounters, ReadRules, Reason, Unreadable
from pipeline.dag.folder import Folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import (
    ExternalFile,
    NoInputs,
    Problem,
    Stage,
    StageContext,
    StageResult,
    below,
    circumstance,
)
from pipeline.dag.store import Manifest
from pipeline.errors import WorkerLostError
from pipeline.stages.sharding import total

HARMLESS = (Reason.EMPTY, Reason.NO_MAIN_TEXT)
"Outcomes that are counted but are no damage: an empty file says nothing wrong, and many a page is links alone."
FILES = "logs/files.json"
"The files of the corpus: name, path and bytes."


@dataclass
class Ingest(Stage):
    """Reads text, source code, web pages, JSON, CSV, Parquet and Arrow into documents; see data/FORMATS.md.

    The identity of a corpus is the names of its files below the pattern's fixed root, and their bytes (of remote
    files: their sizes and modification times); where they lie is circumstance.
    """

    name: ClassVar[str] = "ingest"
    version: ClassVar[int] = 2
    produces: ClassVar[str] = "documents"

    inputs: NoInputs = field(default_factory=NoInputs)
    "None: it begins from files."
    paths: list[str] = circumstance([])
    "Files, folders and globs (`**` crosses folders), also as URLs (s3://, gs://); python://stdlib is Python's library."
    exclude: list[str] = field(default_factory=list)
    "Globs of names to leave out."
    rules: ReadRules = field(default_factory=ReadRules)
    "How a file becomes documents."
    shard_bytes: int = 4 << 20
    "Bytes of files read into one shard, about; a larger file is parted among several where its format allows; > 0."
    max_unreadable_fraction: float = 0.0
    "Fraction of rows that may be unreadable before the stage fails, in [0, 1]. Empty rows are counted, not faults."

    def problems(self) -> list[Problem]:
        found = []
        if not self.paths:
            allowed = "files, folders, globs, or python://stdlib"
            found.append(
                Problem("paths", "no file is named", allowed, "set it, as in paths=[corpus/**/*.txt]")
            )
        if self.shard_bytes <= 0:
            found.append(Problem("shard_bytes", f"it is {self.shard_bytes}", "> 0", "leave it out"))
        if not 0 <= self.max_unreadable_fraction <= 1:
            what = f"it is {self.max_unreadable_fraction}"
            found.append(Problem("max_unreadable_fraction", what, "a number from 0 to 1", "0 tolerates none"))
        return found + below("rules", self.rules.problems())

    @cached_property
    def files(self) -> list[SourceFile]:
        """The corpus, sorted by name; listed once per command."""
        return list_files(self.paths, exclude=self.exclude)

    def external_files(self) -> list[ExternalFile]:
        return [
            ExternalFile(file.name, file.path, digest=f"stamp:{file.stamp}" if file.is_remote else "")
            for file in self.files
        ]

    def estimate(self, inputs: Mapping[str, list[Manifest]], resources: Resources) -> dict[str, float]:
        del inputs, resources
        return {"files": len(self.files), "bytes": sum(file.num_bytes for file in self.files)}

    def run(self, context: StageContext) -> StageResult:
        shards = grouped(self._pieces(context), self.shard_bytes)
        if len(shards) > MOST_SHARDS:
            raise DataError(
                f"the corpus would be {len(shards)} shards",
                where=f"stages.{context.node}.shard_bytes={self.shard_bytes}",
                allowed=f"at most {MOST_SHARDS}, whose names sort in order",
                do="set a larger shard_bytes",
            )
        names = [f"documents-{number:05d}.arrow" for number in range(len(shards))]
        items = {
            name: (pieces, self.rules, context.output, context.scratch, name)
            for name, pieces in zip(names, shards, strict=True)
        }
        with _naming_files(items):
            results = context.map(ingest_shard, items)
        counters = total(result["counters"] for result in results.values())
        self._check(counters, [fault for result in results.values() for fault in result["faults"]], context)
        if self.rules.id_field is not None:
            counters["repeated_ids"] = _repeated_ids(context.scratch, names)
        _write_places(self.files, context.output)
        return StageResult(counters | {"files": len(self.files), "shards": len(shards)})

    def _pieces(self, context: StageContext) -> list[Piece]:
        """The corpus in order, its large files in parts: first their rows are counted, then their places known."""
        spans = spans_of(self.files, rules=self.rules, part_bytes=self.shard_bytes)
        groups = grouped(spans, SURVEY_BYTES) if spans else []
        items = {
            f"survey-{number:05d}": (group, self.rules, self.shard_bytes)
            for number, group in enumerate(groups)
        }
        with _naming_files(items):
            results = context.map(survey_spans, items, unit="surveys") if items else {}
        counts = [each for result in results.values() for each in result["counts"]]
        return pieces_of(self.files, spans, counts)

    def _check(self, counters: dict[str, int], faults: list[dict[str, str]], context: StageContext) -> None:
        """Nothing is skipped silently: what could not be read is counted, listed, and beyond the limit an error."""
        harmless = {f"unreadable/{reason.value}" for reason in HARMLESS}
        unreadable = sum(
            n for name, n in counters.items() if name.startswith("unreadable/") and name not in harmless
        )
        if faults:
            context.output.write_json("logs/unreadable.json", faults)
        if unreadable > self.max_unreadable_fraction * counters["rows"]:
            raise DataError(
                f"{unreadable} of {counters['rows']} rows cannot be read; the first: {faults[0]['what']}",
                where=faults[0]["where"],
                allowed=f"a fraction of at most {self.max_unreadable_fraction:g} (max_unreadable_fraction)",
                do=f"mend the files, or set stages.{context.node}.max_unreadable_fraction",
            )
        if not counters["documents"]:
            raise DataError(
                "the corpus is empty: no file holds any text",
                where=", ".join(self.paths),
                allowed="at least one document",
                do="check the paths and the rules of reading",
            )


@contextmanager
def _naming_files(items: Mapping[str, tuple[Any, ...]]) -> Iterator[None]:
    """Say which files an item read that took its worker with it: a damaged one can, in native code or by its size."""
    try:
        yield
    except WorkerLostError as lost:
        pieces = items[lost.item][0]
        paths = list(dict.fromkeys(file_of(piece).path for piece in pieces))
        shown = [
            *paths[:MOST_NAMED],
            *([f"{len(paths) - MOST_NAMED} more"] if len(paths) > MOST_NAMED else []),
        ]
        lost.where = f"{lost.where}, which reads {', '.join(shown)}"
        lost.do = f"look at these files, or leave them out with `exclude`; {lost.do}"
        raise


def survey_spans(spans: list[Span], rules: ReadRules, part_bytes: int) -> dict[str, list[list[Count]]]:
    """Count the rows of large files, so that they can be parted."""
    return {"counts": [survey(span, rules=rules, part_bytes=part_bytes) for span in spans]}


def ingest_shard(
    pieces: list[Piece], rules: ReadRules, output: Folder, scratch: Folder, name: str
) -> dict[str, object]:
    """Read some files, or a part of one, into one shard."""
    counters = ReadCounters()
    faults: list[dict[str, str]] = []
    ids: list[str] | None = None if rules.id_field is None else []
    with output.writing(name) as sink, DocumentWriter(sink) as writer:
        for piece in pieces:
            for outcome in read_piece(piece, rules=rules):
                counters.add(outcome)
                if isinstance(outcome, Document):
                    writer.write(outcome)
                    if ids is not None:
                        ids.append(outcome.id)
                elif outcome.reason not in HARMLESS and len(faults) < MOST_FAULTS:
                    faults.append(_fault(outcome, file_of(piece)))
    if ids is not None:
        scratch.write_bytes(_ids_name(name), id_hashes(ids).tobytes())
    return {"counters": counters.as_dict(), "faults": faults}


MOST_SHARDS = 100_000
"Five digits."
MOST_NAMED = 10
"Files that an error names."
MOST_FAULTS = 100
"Unreadable rows of a shard that are listed one by one; all are counted."


def _fault(outcome: Unreadable, file: SourceFile) -> dict[str, str]:
    what = f"{outcome.reason.value}: {outcome.detail}"
    return {"what": what, "where": f"{file.path}, row {outcome.row}", "source": outcome.source}


def _repeated_ids(scratch: Folder, names: list[str]) -> int:
    return count_repeated([_ids_name(name) for name in names], read=scratch.read_bytes)


def _ids_name(name: str) -> str:
    return f"ids/{name}.bin"


def _write_places(files: list[SourceFile], output: Folder) -> None:
    """Where the corpus lay is circumstance, and what `headrace show` ends a lineage with; one file in memory."""
    with output.writing(FILES) as sink:
        for number, file in enumerate(files):
            place = {"bytes": file.num_bytes, "name": file.name, "path": file.path}
            sink.write(b"[\n" if number == 0 else b",\n")
            sink.write(json.dumps(place, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        sink.write(b"\n]\n")
