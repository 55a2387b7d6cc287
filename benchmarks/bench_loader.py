"""Token shards to training batches: tokens a second into arrays on one core, and memory while the corpus grows.

Against limits: 20 million tokens a second, in the order of training (every sequence from anywhere in the corpus); and
resident memory of our own that a corpus of many times the size leaves as it is (mapped pages of files are shown apart:
the system takes them back when it wants to).
"""

import sys
import tempfile
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from measure import Result, arguments, compare, publish

from data.batches import TrainingBatches
from data.packed import Boundaries, PackedSequences
from data.shards import TokenFormat, TokenRow, TokenShards, TokenWriter

LIMIT = 20e6
SEQ_LEN, PER_STEP, MICRO = 2048, 64, 8
DOCUMENT_TOKENS = 1000
SHARD_TOKENS = 4 << 20
STEPS = 40


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--megabytes", type=int, nargs="+", default=[10, 100, 1000], help="sizes of the corpus"
    )
    options = parser.parse_args()
    results = []
    for size in options.megabytes:
        with tempfile.TemporaryDirectory() as temporary:
            paths = write_corpus(Path(temporary), size << 20)
            results += measured(paths, size, repeats=options.repeats)
    return 0 if publish(results, json_file=options.json) else 1


def measured(paths: list[Path], megabytes: int, *, repeats: int) -> list[Result]:
    shards = TokenShards(paths)
    memory = in_own_process(paths)
    found = []
    for boundaries in Boundaries:
        pool = PackedSequences(shards, seq_len=SEQ_LEN, boundaries=boundaries)
        batches = TrainingBatches([pool], sequences_per_step=PER_STEP, seed=1)
        title = f"{megabytes} MB of tokens, boundaries {boundaries.name}"
        limit = LIMIT if boundaries is Boundaries.ignore else None
        facts = {"tokens": f"{shards.num_tokens:,}", "seq_len": SEQ_LEN, **memory}
        contenders = {"headrace": partial(read, batches)}
        if boundaries is Boundaries.ignore:
            contenders["numpy memmap, random rows"] = partial(read_bare, shards)
        found.append(compare(title, contenders, unit="tokens", repeats=repeats, limit=limit, **facts))
    return found


def read(batches: TrainingBatches) -> float:
    """Every micro-step of some steps, as one rank reads them."""
    read.first += STEPS
    for step in range(read.first, read.first + STEPS):
        for micro_step in range(PER_STEP // MICRO):
            batch = batches.batch(step, rank=0, world_size=1, micro_step=micro_step, micro_batch_size=MICRO)
            assert batch["input_ids"].shape == (MICRO, SEQ_LEN)
    return float(STEPS * PER_STEP * SEQ_LEN)


read.first = 0


def read_bare(shards: TokenShards) -> float:
    """The loop that small trainers have: random places of the mapped ids, stacked and made int64."""
    ids = max(shards.tokens.pieces, key=len)
    draw = np.random.default_rng(0)
    for _ in range(STEPS * PER_STEP // MICRO):
        starts = draw.integers(0, len(ids) - SEQ_LEN - 1, MICRO)
        inputs = np.stack([ids[start : start + SEQ_LEN].astype(np.int64) for start in starts])
        labels = np.stack([ids[start + 1 : start + 1 + SEQ_LEN].astype(np.int64) for start in starts])
        assert inputs.shape == labels.shape
    return float(STEPS * PER_STEP * SEQ_LEN)


def in_own_process(paths: list[Path]) -> dict[str, str]:
    """Resident memory of a fresh process that has read some steps: its own, and mapped from files."""
    with get_context("spawn").Pool(1) as pool:
        own, mapped = pool.apply(_memory, (paths,))
    return {"own_memory": f"{own / 2**20:.0f} MiB", "mapped": f"{mapped / 2**20:.0f} MiB"}


def _memory(paths: list[Path]) -> tuple[int, int]:
    pool = PackedSequences(TokenShards(paths), seq_len=SEQ_LEN)
    batches = TrainingBatches([pool], sequences_per_step=PER_STEP, seed=1)
    read(batches)
    found = psutil.Process().memory_info()
    return found.rss - found.shared, found.shared


def write_corpus(folder: Path, num_bytes: int) -> list[Path]:
    """Documents of random ids, DOCUMENT_TOKENS each on average."""
    draw = np.random.default_rng(0)
    paths: list[Path] = []
    left = num_bytes // 2
    while left > 0:
        paths.append(folder / f"tokens-{len(paths):05d}.arrow")
        ids = draw.integers(1, 32_000, min(left, SHARD_TOKENS), dtype=np.uint16)
        bounds = np.append(np.sort(draw.choice(len(ids), max(1, len(ids) // DOCUMENT_TOKENS))), len(ids))
        with TokenWriter(paths[-1], token_format=TokenFormat("none", 32_000, 0)) as writer:
            for number, document in enumerate(np.split(ids, bounds)):
                if len(document):
                    writer.write(TokenRow(f"{number}", "random", len(document), document))
        left -= len(ids)
    return paths


if __name__ == "__main__":
    sys.exit(main())
