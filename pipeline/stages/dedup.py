"""`dedup`: of documents with the same text, the first stays."""

import io
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from data.dedup import DedupRules, hash_texts, keep_masks
from data.documents import DocumentWriter, document_batches, read_documents
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Stage, StageContext, StageResult, port
from pipeline.stages.sharding import map_shards, shard_names


@dataclass
class Dedup(Stage):
    """Drops exact duplicates over the whole corpus: texts whose normalised forms have the same 128-bit hash."""

    name: ClassVar[str] = "dedup"
    produces: ClassVar[str] = "documents"

    @dataclass
    class Inputs:
        documents: str = port("documents")
        "What to look through."

    inputs: Inputs = field(default_factory=Inputs)
    rules: DedupRules = field(default_factory=DedupRules)
    "Which differences between two texts do not count."

    def run(self, context: StageContext) -> StageResult:
        given = context.one("documents")
        names = shard_names(given)
        hashes = {name: (given.folder, name, context.scratch, self.rules) for name in names}
        context.map(hash_shard, hashes)
        context.map(merge_hashes, {"masks": (names, context.scratch)}, unit="merges")
        result = map_shards(context, given, filter_shard, context.scratch)
        counters = result.counters
        assert counters["documents_in"] == counters["documents"] + counters["dropped/duplicate"], counters
        return result


def hash_shard(folder: Folder, name: str, scratch: Folder, rules: DedupRules) -> dict[str, Any]:
    """Write the hashes of a shard's texts."""
    with folder.opening(name) as source:
        texts = (text for batch in document_batches(source) for text in batch.column("text").to_pylist())
        hashes = hash_texts(texts, rules=rules)
    _save(scratch, f"hashes/{name}", hashes)
    return {"documents": len(hashes)}


def merge_hashes(names: list[str], scratch: Folder) -> dict[str, Any]:
    """Decide over all shards together which documents stay."""
    masks, counters = keep_masks([_load(scratch, f"hashes/{name}") for name in names])
    for name, mask in zip(names, masks, strict=True):
        _save(scratch, f"masks/{name}", mask)
    return {"kept": counters.num_kept, "duplicates": counters.num_duplicates}


def filter_shard(folder: Folder, name: str, output: Folder, scratch: Folder) -> dict[str, int]:
    """Write the documents of a shard that stay."""
    mask = _load(scratch, f"masks/{name}")
    with folder.opening(name) as source, output.writing(name) as sink, DocumentWriter(sink) as writer:
        for document, stays in zip(read_documents(source), mask, strict=True):
            if stays:
                writer.write(document)
        kept = writer.num_rows
        num_bytes = writer.num_bytes
    counters = {"documents_in": len(mask), "documents": kept, "dropped/duplicate": len(mask) - kept}
    return counters | {"bytes": num_bytes}


def _save(folder: Folder, name: str, array: Any) -> None:
    with folder.writing(f"{name}.npy") as sink:
        np.save(sink, array)


def _load(folder: Folder, name: str) -> Any:
    return np.load(io.BytesIO(folder.read_bytes(f"{name}.npy")))
