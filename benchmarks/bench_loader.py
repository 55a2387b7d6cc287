"""Token shards to training batches: tokens a second into arrays on one core, and memory while the corpus grows.

Required: 20 million tokens a second in the order of training (every sequence from anywhere in the corpus); and
resident memory of our own that a corpus of many times the size leaves as it is (mapped pages of files are shown apart:
the system takes them back when it wants to). `--megabytes 10 10000` wants 11 GB of room below TMPDIR.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from measure import Limit, Result, arguments, compare, publish

from data.batches import SequencePool, TrainingBatches
from data.fitted import Fit, FittedSequences
from data.packed import Boundaries, PackedSequences
from data.shards import TokenFormat, TokenRow, TokenShards, TokenWriter

LIMIT, GROWTH = 20e6, 1.25
SEQ_LEN, PER_STEP, MICRO = 2048, 64, 8
DOCUMENT_TOKENS = 1000
SHARD_TOKENS = 4 << 20
STEPS = 40

POOLS: dict[str, Callable[[TokenShards], SequencePool]] = {
    "packed": partial(PackedSequences, seq_len=SEQ_LEN),
    "packed, documents masked": partial(PackedSequences, seq_len=SEQ_LEN, boundaries=Boundaries.mask),
    "best fit": partial(FittedSequences, seq_len=SEQ_LEN),
    "padded": partial(FittedSequences, seq_len=SEQ_LEN, fit=Fit.one),
}


class Memory(NamedTuple):
    """Of a process that has read some steps."""

    own: int
    mapped: int
    seconds: float
    "To open the shards and lay out the sequences."


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--megabytes", type=int, nargs="+", default=[10, 100, 1000], help="sizes of the corpus, ascending"
    )
    options = parser.parse_args()
    results: list[Result] = []
    found: dict[str, list[Memory]] = {name: [] for name in POOLS}
    for size in options.megabytes:
        with tempfile.TemporaryDirectory() as temporary:
            paths = write_corpus(Path(temporary), size << 20)
            for name in POOLS:
                found[name].append(in_own_process(paths, name))
            results += measured(paths, size, repeats=options.repeats)
    return 0 if publish([*results, grown(found, options.megabytes)], json_file=options.json) else 1


def grown(found: dict[str, list[Memory]], sizes: list[int]) -> Result:
    """Own memory by pool and size of the corpus, against what it may grow by."""
    facts: dict[str, object] = {}
    limits = []
    for name, each in found.items():
        facts |= {
            f"{name}, {size} MB": f"{memory.own / 2**20:.0f} MiB (and {memory.mapped / 2**20:.0f} mapped, "
            f"laid out in {memory.seconds:.1f} s)"
            for size, memory in zip(sizes, each, strict=True)
        }
        limits.append(Limit(f"{name}: times the memory", each[-1].own / each[0].own, most=GROWTH))
    return Result("own memory while the corpus grows", limits=limits, facts=facts)


def measured(paths: list[Path], megabytes: int, *, repeats: int) -> list[Result]:
    shards = TokenShards(paths)
    facts = {"tokens": f"{shards.num_tokens:,}", "seq_len": SEQ_LEN}
    found = []
    for name in ("packed", "packed, documents masked"):
        batches = TrainingBatches([POOLS[name](shards)], sequences_per_step=PER_STEP, seed=1)
        contenders = {"headrace": partial(read, batches)}
        if not found:
            contenders["numpy memmap, random rows"] = partial(read_bare, shards)
        title = f"{megabytes} MB of tokens, {name}"
        found.append(compare(title, contenders, unit="tokens", repeats=repeats, least_rate=LIMIT, **facts))
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


def in_own_process(paths: list[Path], pool: str) -> Memory:
    """Resident memory of a fresh process that has read some steps."""
    with get_context("spawn").Pool(1) as workers:
        return workers.apply(_memory, (paths, pool))


def _memory(paths: list[Path], pool: str) -> Memory:
    begun = time.perf_counter()
    shards = TokenShards(paths)
    batches = TrainingBatches([POOLS[pool](shards)], sequences_per_step=PER_STEP, seed=1)
    seconds = time.perf_counter() - begun
    read(batches)
    found = psutil.Process().memory_info()
    return Memory(found.rss - found.shared, found.shared, seconds)


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
