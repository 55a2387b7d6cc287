"""Near duplicates: `dedup` against datatrove's MinHash pipeline, and the kernel of the signatures against libraries.

The corpus is the standard library's source in documents of some kilobytes, and copies of a part of them with a known
fraction of words replaced. Both run all their steps in this one process, at 5-word n-grams and 14 bands of 8; datatrove
splits at white space (after its own normalisation), which is cheaper than any tokenizer it has. Recall and precision of
the pairs that share a cluster are against exact Jaccard similarities of at least 0.75, of words as we take them. A pair
below counts against precision, whether its bands met (one of 0.6 in five does) or a third document joined it: the
similarities of all pairs are shown. Required: recall within 0.01 of datatrove's, precision no lower, in a
fifth of its time; at min_similarity 0.7, which datatrove has no counterpart of, a precision of 0.6. Needs `datatrove`,
`datasketch`, `rensa` and `xxhash`.
"""

import contextlib
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import rensa
from datasketch import MinHash
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import IpcReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.logging import logger
from datatrove.utils.word_tokenizers import WordTokenizer
from measure import Limit, arguments, compare, publish
from pyarrow import parquet
from xxhash import xxh64_intdigest

from data.dedup.near import NearRules, least_values
from data.documents import Document, DocumentWriter
from data.files import STDLIB, list_files
from data.ngrams import units_of
from pipeline.dag.folder import Folder, open_folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Input, StageContext
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.stages.dedup import CLUSTERS, Dedup, Match

SIMILAR, RELATED = 0.75, 0.5
TIMES, RECALL_LOST, STRICT_PRECISION = 5.0, 0.01, 0.6
RULES = NearRules()
STRICT = NearRules(min_similarity=0.7)  # which datatrove has no counterpart of
NUM_SHARDS = 8
Pairs = set[tuple[str, str]]


class Spaces(WordTokenizer):  # type: ignore[misc]
    """The cheapest that there can be: datatrove's own for English is spaCy."""

    def __init__(self) -> None:
        super().__init__("en")

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


@dataclass
class Silence:
    def send(self, event: dict[str, Any]) -> None:
        """No one listens."""


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--megabytes", type=float, default=8, help="of text before copies (default 8)")
    options = parser.parse_args()
    logger.remove()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        documents = planted(options.megabytes, seed=0)
        source = write(documents, open_folder(str(root / "documents")))
        size = sum(len(document.text.encode()) for document in documents) / 1e6
        found: dict[str, Pairs] = {}
        runs = {
            "headrace": lambda: ours(source, root / "ours"),
            "headrace, strict": lambda: ours(source, root / "strict", STRICT),
            "datatrove": lambda: theirs(source, root / "theirs"),
        }
        contenders = {name: partial(_timed, found, name, size, run) for name, run in runs.items()}
        result = compare(
            "near duplicates",
            contenders,
            unit="MB",
            repeats=options.repeats,
            least_ratios={"datatrove": TIMES},
            documents=len(documents),
        )
        result.limits.extend(judged(result.facts, documents, found))
        kernels = compare("signatures", kernel_contenders(documents), unit="n-grams", repeats=options.repeats)
    return 0 if publish([result, kernels], json_file=options.json) else 1


def planted(megabytes: float, *, seed: int) -> list[Document]:
    """Stretches of source of 1 to 6 kB; after them copies of every other one, with 0 to 15 % of the words replaced."""
    chance = random.Random(seed)
    texts: list[str] = []
    files = [Path(file.path).read_text(errors="ignore") for file in list_files([STDLIB])]
    while sum(map(len, texts)) < megabytes * 1e6 and files:
        text, start = files.pop(), 0
        while start < len(text):
            size = chance.randrange(1000, 6000)
            texts.append(text[start : start + size])
            start += size
    copies = [edited(text, chance.random() * 0.15, chance) for text in texts if chance.random() < 0.5]
    texts += copies
    chance.shuffle(texts)
    return [Document(f"{number}", text, "stdlib", number) for number, text in enumerate(texts)]


def edited(text: str, fraction: float, chance: random.Random) -> str:
    """In stretches, as edits come: each takes 4 words and leaves others."""
    words = text.split(" ")
    for _ in range(int(fraction * len(words) / 4)):
        place = chance.randrange(len(words))
        words[place : place + 4] = [f"edit{chance.randrange(10**6)}" for _ in range(4)]
    return " ".join(words)


def write(documents: list[Document], folder: Folder) -> Folder:
    for shard in range(NUM_SHARDS):
        with folder.writing(f"documents-{shard:05d}.arrow") as sink, DocumentWriter(sink) as writer:
            for document in documents[shard::NUM_SHARDS]:
                writer.write(document)
    return folder


def ours(source: Folder, target: Path, rules: NearRules = RULES) -> Pairs:
    """The stage as the runner runs it, its tasks one after the other."""
    shutil.rmtree(target, ignore_errors=True)
    files = [ManifestFile(entry.name, entry.size, "") for entry in source.files()]
    manifest = Manifest("ingest", "", "documents", "corpus", {}, {}, files, {}, {}, {})
    output = open_folder(str(target / "output"))
    given = {"documents": [Input("corpus", "", "documents", source, manifest)]}
    scratch = open_folder(str(target / "scratch"))
    context = StageContext("dedup", "", given, output, scratch, Resources(), Silence(), in_turn)
    Dedup(match=Match.near, near=rules).run(context)
    clusters: dict[str, list[str]] = {}
    for entry in output.child(CLUSTERS).files():
        for row in parquet.read_table(output.child(CLUSTERS).at(entry.name)).to_pylist():
            clusters.setdefault(row["cluster"], []).append(row["id"])
    return pairs_of(clusters.values())


def in_turn(function: Callable[..., Any], items: dict[str, Any], **_: Any) -> dict[str, Any]:
    return {name: function(*item) for name, item in items.items()}


def theirs(source: Folder, target: Path) -> Pairs:
    """datatrove's four steps with as many tasks as there are shards, one worker."""
    shutil.rmtree(target, ignore_errors=True)
    config = MinhashConfig(
        n_grams=RULES.ngram_words, num_buckets=RULES.num_bands, hashes_per_bucket=RULES.num_rows
    )
    reader = IpcReader(source.path, glob_pattern="*.arrow")
    paths = {name: str(target / name) for name in ("signatures", "buckets", "clusters", "output")}
    signer = MinhashDedupSignature(paths["signatures"], config, language=Spaces())
    signer._hash_func = lambda text: xxh64_intdigest(text.encode())  # noqa: SLF001 - xxhash 4 takes no str
    steps: list[tuple[list[Any], int]] = [
        ([reader, signer], NUM_SHARDS),
        ([MinhashDedupBuckets(paths["signatures"], paths["buckets"], config=config)], config.num_buckets),
        ([MinhashDedupCluster(paths["buckets"], paths["clusters"], config, save_cluster_id=True)], 1),
        (
            [reader, MinhashDedupFilter(paths["clusters"]), ParquetWriter(paths["output"], compression=None)],
            NUM_SHARDS,
        ),
    ]
    for pipeline, tasks in steps:
        with open("/dev/null", "w") as quiet, contextlib.redirect_stderr(quiet):  # noqa: PTH123 - a device
            LocalPipelineExecutor(
                pipeline, tasks=tasks, workers=1, skip_completed=False, logging_dir=str(target / "logs")
            ).run()
    clusters: dict[int, list[str]] = {}
    for file in sorted((target / "clusters").glob("*.clusters")):
        shard = int(file.stem)
        for row, cluster in struct.iter_unpack("<2I", file.read_bytes()):
            clusters.setdefault(cluster, []).append(str(shard + NUM_SHARDS * row))
    return pairs_of(clusters.values())


def pairs_of(clusters: Any) -> Pairs:
    return {pair for each in clusters for pair in combinations(sorted(each), 2)}


def judged(facts: dict[str, object], documents: list[Document], found: dict[str, Pairs]) -> list[Limit]:
    """Recall and precision of each, over the pairs that share an n-gram at all; into `facts`."""
    sets = {
        each.id: set(units_of(each.text).ngrams(words=RULES.ngram_words, characters=1).tolist())
        for each in documents
    }
    holders: dict[int, list[str]] = {}
    for name, ngrams in sets.items():
        for ngram in ngrams:
            holders.setdefault(ngram, []).append(name)
    candidates = pairs_of(held for held in holders.values() if len(held) < 100)
    similar = {pair: _jaccard(*(sets[name] for name in pair)) for pair in candidates.union(*found.values())}
    true = {pair for pair, value in similar.items() if value >= SIMILAR}
    recall, precision = {}, {}
    facts[f"pairs of Jaccard >= {SIMILAR}"] = len(true)
    for name, pairs in found.items():
        related = sum(similar[pair] >= RELATED for pair in pairs)
        recall[name], precision[name] = len(true & pairs) / len(true), len(true & pairs) / len(pairs)
        facts[name] = (
            f"recall {recall[name]:.3f}, precision {precision[name]:.3f}, of {len(pairs)} pairs"
            f" {related - len(true & pairs)} from {RELATED} to {SIMILAR}, {len(pairs) - related} below"
        )
    ours, strict, theirs = found
    return [
        Limit("recall", recall[ours], least=recall[theirs] - RECALL_LOST),
        Limit("precision", precision[ours], least=precision[theirs]),
        Limit(
            f"precision at min_similarity {STRICT.min_similarity}", precision[strict], least=STRICT_PRECISION
        ),
    ]


def _jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / max(1, len(one | other))


def kernel_contenders(documents: list[Document]) -> dict[str, Callable[[], float]]:
    """One batch of n-grams to signatures; every contender gets the same 64-bit hashes."""
    sets = [units_of(each.text).ngrams(words=RULES.ngram_words, characters=1) for each in documents[:400]]
    sets = [each for each in sets if len(each)]
    flat, starts = np.concatenate(sets), np.cumsum([0, *map(len, sets)])
    number = RULES.num_permutations
    blank = MinHash(number, scheme="affine64", hashfunc=int)

    def numpy() -> float:
        least_values(flat, starts[:-1], RULES)
        return len(flat)

    def datasketch() -> float:
        for each in sets:
            blank.copy().update_batch(each)
        return len(flat)

    def rensa_rows() -> float:
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            flat, starts.astype(np.uint64), number, RULES.seed
        )
        np.array(matrix.to_rows(), np.uint32)
        return len(flat)

    return {"numpy": numpy, "datasketch": datasketch, "rensa": rensa_rows}


def _timed(found: dict[str, Pairs], name: str, size: float, run: Callable[[], Pairs]) -> float:
    found[name] = run()
    return size


if __name__ == "__main__":
    sys.exit(main())
