"""`decontaminate`: documents that share an n-gram with what a model is to be judged by are dropped."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from data.contamination import OverlapRules, overlaps, reference_ngrams
from data.documents import DocumentWriter, document_batches, read_documents
from data.examples import read_examples
from data.hashing import Hashes
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, below, many_ports, port
from pipeline.stages.sharding import (
    Naming,
    check_not_empty,
    map_shards,
    shard_names,
    total,
    write_list,
)

MATCHES = "logs/matches"
"What was dropped and why, one file per shard; no content."

MATCH_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("reference", pa.string()),
        ("ngram", pa.string()),
        ("num_shared", pa.int64()),
        ("num_ngrams", pa.int64()),
    ]
)


@dataclass
class Decontaminate(Stage):
    """Drops the documents that have an n-gram of a reference: `split/test`, or the examples of an evaluation.

    Counters name each reference by its node; a document that meets several is dropped once and counted for each.
    `logs/matches` has for each document dropped the reference, the first n-gram in common, and how many there are.
    Memory: every task maps 8 bytes per different n-gram of the references (about 1.5 GB for 1 GB of English), which
    the tasks of a machine share; a reference's n-grams are merged in one task, which holds them.
    """

    name: ClassVar[str] = "decontaminate"
    produces: ClassVar[str] = "documents"

    @dataclass
    class Inputs:
        documents: str = port("documents")
        "What to look through."
        references: list[str] = many_ports("documents", "examples")
        "What no document may have in common."

    inputs: Inputs = field(default_factory=Inputs)
    rules: OverlapRules = field(default_factory=OverlapRules)
    "How much in common is too much."

    def problems(self) -> list[Problem]:
        return below("rules", self.rules.problems())

    def run(self, context: StageContext) -> StageResult:
        references = context.inputs["references"]
        shards = {
            f"{number}/{name}": (
                given.folder,
                name,
                given.kind,
                context.scratch,
                f"{number}/{name}",
                self.rules,
            )
            for number, given in enumerate(references)
            for name in shard_names(given)
        }
        read = total(context.map(hash_reference, shards, unit="reference shards").values())
        merges = {
            f"{number}": (
                [name for name in shards if name.startswith(f"{number}/")],
                context.scratch,
                f"{number}",
            )
            for number in range(len(references))
        }
        read |= total(context.map(merge_reference, merges, unit="references").values())
        names = [given.reference for given in references]
        result = map_shards(
            context, context.one("documents"), filter_shard, context.scratch, names, self.rules
        )
        counters = result.counters | read
        assert counters["documents_in"] == counters["documents"] + counters["dropped/contaminated"], counters
        check_not_empty(counters["documents"], node=context.node, knob="rules", counters=counters)
        return StageResult(counters)


def hash_reference(
    folder: Folder, name: str, kind: str, scratch: Folder, item: str, rules: OverlapRules
) -> dict[str, int]:
    """Write the n-grams of one shard of a reference."""
    with folder.opening(name) as source:
        ngrams, num_short = reference_ngrams(_texts(source, kind), rules=rules)
    _save(scratch, f"shards/{item}", ngrams)
    return {"references/short": num_short}


def merge_reference(items: list[str], scratch: Folder, number: str) -> dict[str, int]:
    """Write the n-grams of a whole reference, ascending."""
    with ExitStack() as stack:
        shards = [_load(scratch, f"shards/{item}", stack) for item in items]
        merged = np.unique(np.concatenate([np.zeros(0, np.uint64), *shards]))
    _save(scratch, f"references/{number}", merged)
    return {"references/ngrams": len(merged)}


def filter_shard(
    folder: Folder, name: str, output: Folder, scratch: Folder, references: list[str], rules: OverlapRules
) -> dict[str, int]:
    """Write the documents of a shard that share too little; list the others."""
    counters: Counter[str] = Counter({"documents_in": 0, "documents": 0, "dropped/contaminated": 0})
    counters.update({f"contaminated/{reference}": 0 for reference in references})
    matches: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ngrams = [_load(scratch, f"references/{number}", stack) for number in range(len(references))]
        source = stack.enter_context(folder.opening(name))
        writer = stack.enter_context(DocumentWriter(stack.enter_context(output.writing(name))))
        for document in read_documents(source):
            counters["documents_in"] += 1
            with Naming(document.id):
                found = overlaps(document.text, ngrams, rules=rules)
            if not found:
                writer.write(document)
                continue
            counters["dropped/contaminated"] += 1
            for each in found:
                counters[f"contaminated/{references[each.reference]}"] += 1
                matches.append(asdict(each) | {"id": document.id, "reference": references[each.reference]})
        counters.update(documents=writer.num_rows, bytes=writer.num_bytes)
    write_list(output, MATCHES, name, pa.Table.from_pylist(matches, schema=MATCH_SCHEMA))
    return dict(counters)


def _texts(source: Any, kind: str) -> Iterator[str]:
    """Of documents the text; of examples the prompt and the response as one."""
    if kind == "examples":
        return (f"{each.prompt}\n{each.response}" for each in read_examples(source))
    return (text for batch in document_batches(source) for text in batch.column("text").to_pylist())


def _save(scratch: Folder, name: str, hashes: Hashes) -> None:
    scratch.write_bytes(f"{name}.u64", hashes.astype("<u8").tobytes())


def _load(scratch: Folder, name: str, stack: ExitStack) -> Hashes:
    """An array on the file's memory map where the filesystem is local."""
    source = stack.enter_context(scratch.opening(f"{name}.u64"))
    return np.frombuffer(source.read_buffer(), "<u8")
