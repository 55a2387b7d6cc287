"""`ingest`: files from outside become documents with stable ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from data.documents import Document, DocumentWriter
from data.errors import DataError
from data.files import SourceFile, list_files
from data.readers import read_file
from data.reading import ReadCounters, ReadRules, Reason, Unreadable
from pipeline.dag.folder import Folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import ExternalFile, NoInputs, Problem, Stage, StageContext, StageResult, circumstance
from pipeline.dag.store import Manifest
from pipeline.stages.sharding import total

HARMLESS = (Reason.EMPTY,)
"Outcomes that are counted but are no damage: an empty file says nothing wrong."
FILES = "logs/files.json"
"The files of the corpus: name, path and bytes."


@dataclass
class Ingest(Stage):
    """Reads text, source code, JSONL and Parquet (plain or .gz) into documents.

    The identity of a corpus is the names of its files below the pattern's fixed root, and their bytes; where they lie
    is circumstance.
    """

    name: ClassVar[str] = "ingest"
    produces: ClassVar[str] = "documents"

    inputs: NoInputs = field(default_factory=NoInputs)
    "None: it begins from files."
    paths: list[str] = circumstance([])
    "Files, folders and globs (`**` crosses folders); python://stdlib is the running Python's standard library."
    exclude: list[str] = field(default_factory=list)
    "Globs of names to leave out."
    rules: ReadRules = field(default_factory=ReadRules)
    "How a file becomes documents."
    shard_bytes: int = 4 << 20
    "Bytes of files read into one shard, about; > 0."
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
        return found

    @cached_property
    def files(self) -> list[SourceFile]:
        """The corpus, sorted by name; listed once per command."""
        return list_files(self.paths, exclude=self.exclude)

    def external_files(self) -> list[ExternalFile]:
        return [ExternalFile(file.name, str(file.path)) for file in self.files]

    def estimate(self, inputs: Mapping[str, list[Manifest]], resources: Resources) -> dict[str, float]:
        del inputs, resources
        return {"files": len(self.files), "bytes": sum(file.num_bytes for file in self.files)}

    def run(self, context: StageContext) -> StageResult:
        shards = _grouped(self.files, self.shard_bytes)
        items = {
            f"documents-{number:05d}.arrow": (
                files,
                self.rules,
                context.output,
                f"documents-{number:05d}.arrow",
            )
            for number, files in enumerate(shards)
        }
        results = context.map(ingest_shard, items)
        counters = total(result["counters"] for result in results.values())
        self._check(counters, [fault for result in results.values() for fault in result["faults"]], context)
        # Where the corpus lay is circumstance, and what `headrace show` ends a lineage with.
        places = [{"name": file.name, "path": str(file.path), "bytes": file.num_bytes} for file in self.files]
        context.output.write_json(FILES, places)
        return StageResult(counters | {"files": len(self.files), "shards": len(shards)})

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


def ingest_shard(files: list[SourceFile], rules: ReadRules, output: Folder, name: str) -> dict[str, object]:
    """Read some files into one shard."""
    counters, faults = ReadCounters(), []
    with output.writing(name) as sink, DocumentWriter(sink) as writer:
        for file in files:
            for outcome in read_file(file, rules=rules):
                counters.add(outcome)
                if isinstance(outcome, Document):
                    writer.write(outcome)
                elif outcome.reason not in HARMLESS:
                    faults.append(_fault(outcome, file))
    return {"counters": counters.as_dict(), "faults": faults[:MOST_FAULTS]}


MOST_FAULTS = 100
"Unreadable rows of a shard that are listed one by one; all are counted."


def _fault(outcome: Unreadable, file: SourceFile) -> dict[str, str]:
    what = f"{outcome.reason.value}: {outcome.detail}"
    return {"what": what, "where": f"{file.path}, row {outcome.row}", "source": outcome.source}


def _grouped(files: list[SourceFile], shard_bytes: int) -> list[list[SourceFile]]:
    """Consecutive files in groups of about `shard_bytes`; a function of names and sizes alone."""
    groups: list[list[SourceFile]] = [[]]
    held = 0
    for file in files:
        if groups[-1] and held + file.num_bytes > shard_bytes:
            groups.append([])
            held = 0
        groups[-1].append(file)
        held += file.num_bytes
    return groups
