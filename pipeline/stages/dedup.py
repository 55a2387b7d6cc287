"""`dedup`: of documents with the same text, or with nearly the same, one stays.

Four rounds of tasks: each shard is sketched; each range of keys of each band is sorted, and what shares a key is
paired; the pairs are joined to clusters; each shard is written without what another document stands for. A task holds
a record batch of documents, or `KEYS_AT_ONCE` keys, half a gigabyte while they are sorted; the one task that joins
holds about 70 bytes per document that has a duplicate. The scratch folder takes about 80 bytes a document, and for near
duplicates at the defaults 1.3 kB.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from data.dedup.clusters import Keep, connect, exact_pairs, near_pairs
from data.dedup.exact import DedupRules
from data.dedup.listing import alike, list_clusters
from data.dedup.marks import marked
from data.dedup.near import NearRules
from data.dedup.sketches import EXACT_BAND, ROW_BITS, ROW_MASK, Sketches, read_keys, write_sketches
from data.documents import DocumentWriter, document_batches, read_documents
from pipeline.dag.arrays import load_array, save_array
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, below, port
from pipeline.stages.sharding import map_shards, shard_names, sum_below, total, write_list

KEYS_AT_ONCE = 1 << 23
SHARDS, MEMBERS, BOUNDS = "shards.json", "clusters.u64", "bounds"
CLUSTERS = "logs/clusters"
"The list of clusters, one file per shard; not content, since the documents say what stays and what is marked."


class Match(Enum):
    """Which documents are duplicates."""

    exact = "exact"  # the same text, by `rules`
    near = "near"  # most n-grams the same, by `near`, or the same text


class Fate(Enum):
    """What becomes of the documents that another one stands for."""

    removed = "removed"
    marked = "marked"  # `duplicate_of` in their metadata names the one that stands for them


@dataclass
class Dedup(Stage):
    """Finds duplicates over the whole corpus. Documents in = kept + dropped, by whether the text is the kept one's.

    `logs/clusters` lists every document that has a duplicate: its cluster (the id of the document that stays), and the
    estimated Jaccard similarity to that one.
    """

    name: ClassVar[str] = "dedup"
    produces: ClassVar[str] = "documents"

    @dataclass
    class Inputs:
        documents: str = port("documents")
        "What to look through."

    inputs: Inputs = field(default_factory=Inputs)
    match: Match = Match.exact
    "exact: texts that `rules` hold to be one; near: also those that share most n-grams, found as `near` says."
    rules: DedupRules = field(default_factory=DedupRules)
    "Which differences between two texts do not count."
    near: NearRules = field(default_factory=NearRules)
    "How near duplicates are found; of no effect where `match` is exact."
    keep: Keep = Keep.first
    "Which document of a cluster stays: the first, or the longest."
    duplicates: Fate = Fate.removed
    "removed, or marked: they stay, and `split` puts a cluster on one side."

    def problems(self) -> list[Problem]:
        return below("near", self.near.problems())

    def run(self, context: StageContext) -> StageResult:
        given = context.one("documents")
        near = self.near if self.match is Match.near else None
        names = shard_names(given)
        context.scratch.write_json(SHARDS, names)
        corpus = Corpus(given.folder, context.scratch, near)
        sketched = context.map(sketch_shard, {name: (corpus, name, self.rules) for name in names})
        buckets = _buckets(corpus, sum(each["documents"] for each in sketched.values()))
        paired = total(context.map(pair_bucket, buckets, unit="buckets").values())
        joined = context.map(join_pairs, {"clusters": (corpus, list(buckets), self.keep)}, unit="joins")
        result = map_shards(context, given, filter_shard, corpus, self.duplicates)
        counters = result.counters | paired | joined["clusters"]
        assert counters["documents_in"] == counters["documents"] + sum_below(counters, "dropped"), counters
        return StageResult(counters)


@dataclass(frozen=True)
class Corpus:
    """What every task knows; it travels with each, so the names of the shards are in a file."""

    folder: Folder
    scratch: Folder
    near: NearRules | None

    @cached_property
    def names(self) -> list[str]:
        """The shards, in order."""
        return list(self.scratch.read_json(SHARDS))

    @property
    def num_bands(self) -> int:
        return 1 + (self.near.num_bands if self.near else 0)

    @property
    def sketches(self) -> Sketches:
        return Sketches(lambda shard: self.scratch.opening(f"sketches/{self.names[shard]}"))

    def clusters_of(self, name: str) -> Any:
        """Of the documents of a shard that have a duplicate: number, and that of the one that stays, [D, 2]."""
        shard = self.names.index(name)
        low, high = (int(row) * 16 for row in load_array(self.scratch, BOUNDS)[shard : shard + 2])
        with self.scratch.opening(MEMBERS) as source:
            return np.frombuffer(source.read_at(high - low, low), "<u8").reshape(-1, 2)


def sketch_shard(corpus: Corpus, name: str, rules: DedupRules) -> dict[str, int]:
    """Write the sketches and keys of a shard's documents."""
    scratch = corpus.scratch
    with (
        corpus.folder.opening(name) as source,
        scratch.writing(f"sketches/{name}") as sketches,
        scratch.writing(f"keys/{name}") as keys,
    ):
        num = write_sketches(document_batches(source), sketches, keys, rules=rules, near=corpus.near)
    return {"documents": num}


def pair_bucket(corpus: Corpus, item: str, band: int, part: int, num_part_bits: int) -> dict[str, int]:
    """Pair what shares a key of one band, within one range of keys; near pairs that are not alike are left out."""
    gathered = []
    for shard, name in enumerate(corpus.names):
        with corpus.scratch.opening(f"keys/{name}") as source:
            key, text, row = read_keys(
                source, band=band, num_bands=corpus.num_bands, part=part, num_part_bits=num_part_bits
            )
        gathered.append((key, text, np.uint64(shard) << ROW_BITS | row.astype(np.uint64)))
    columns = [np.concatenate(each) for each in zip(*gathered, strict=True)]
    if band == EXACT_BAND:
        pairs = exact_pairs(*columns)
        counters = {"pairs/exact": len(pairs)}
    else:
        assert corpus.near is not None
        found = near_pairs(*columns)
        pairs = alike(corpus.sketches, found, min_similarity=corpus.near.min_similarity)
        counters = {"pairs/near": len(found), "pairs/unlike": len(found) - len(pairs)}
    save_array(corpus.scratch, f"pairs/{item}", pairs)
    return counters


def join_pairs(corpus: Corpus, buckets: list[str], keep: Keep) -> dict[str, int]:
    """Join the pairs of all buckets to clusters, in the order of shards, and write where each shard's begin."""

    def lengths(documents: Any) -> Any:
        return corpus.sketches.take(documents, ["length"]).column("length").to_numpy()

    files = [lambda name=name: load_array(corpus.scratch, f"pairs/{name}") for name in buckets]
    clusters = connect(files, keep=keep, lengths=lengths)
    rows = np.column_stack([clusters.documents, clusters.kept]).astype("<u8")
    corpus.scratch.write_bytes(MEMBERS, rows.tobytes())
    bounds = np.searchsorted(
        clusters.documents >> ROW_BITS, np.arange(len(corpus.names) + 1, dtype=np.uint64)
    )
    save_array(corpus.scratch, BOUNDS, bounds)
    return {"clusters": len(clusters.documents) - clusters.num_dropped}


def filter_shard(folder: Folder, name: str, output: Folder, corpus: Corpus, fate: Fate) -> dict[str, int]:
    """Write the documents of a shard that stay, or all with their marks; and list those that have a duplicate."""
    clusters = corpus.clusters_of(name)
    table = list_clusters(corpus.sketches, clusters, has_signatures=corpus.near is not None)
    write_list(output, CLUSTERS, name, table)
    counters: Counter[str] = Counter({"documents_in": 0, "documents": 0, f"{_COUNTED[fate]}/duplicate": 0})
    if corpus.near:
        counters[f"{_COUNTED[fate]}/near_duplicate"] = 0
    duplicates = _duplicates(clusters, table)
    with folder.opening(name) as source, output.writing(name) as sink, DocumentWriter(sink) as writer:
        for row, document in enumerate(read_documents(source)):
            counters["documents_in"] += 1
            kept_id, counter = duplicates.get(row, ("", ""))
            if not counter:
                writer.write(document)
                continue
            counters[f"{_COUNTED[fate]}/{counter}"] += 1
            if fate is Fate.marked:
                writer.write(marked(document, kept_id))
        counters.update(documents=writer.num_rows, bytes=writer.num_bytes)
    return dict(counters)


_KINDS = {"exact": "duplicate", "near": "near_duplicate"}
_COUNTED = {Fate.removed: "dropped", Fate.marked: "marked"}


def _duplicates(clusters: Any, table: pa.Table) -> dict[int, tuple[str, str]]:
    """Row in the shard to the id of the document that stands for it, and the name of its counter."""
    rows = (clusters[:, 0] & ROW_MASK).tolist()
    return {
        row: (each["cluster"], _KINDS[each["kind"]])
        for row, each in zip(rows, table.to_pylist(), strict=True)
        if not each["stays"]
    }


def _buckets(corpus: Corpus, num_documents: int) -> dict[str, tuple[Any, ...]]:
    """Each range of keys of each band, with as few ranges as keep a task at `KEYS_AT_ONCE`."""
    bits = max(0, -(-num_documents // KEYS_AT_ONCE) - 1).bit_length()
    places = product(range(corpus.num_bands), range(1 << bits))
    return {
        f"band-{band:03d}-{part:05d}": (corpus, f"band-{band:03d}-{part:05d}", band, part, bits)
        for band, part in places
    }
