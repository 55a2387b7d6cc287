"""What conf/size rests on: trainings of one size on the same text, each with other settings, by bits per byte.

    $ python benchmarks/tune_sizes.py d3 num_tokens=655360 learning_rate=1e-3,2e-3,4e-3 optimizer=adamw,muon

trains the product of all values that stand with commas, and prints each as it comes. What was trained with the same
settings before is looked up below `--keep`. A process of one thread for each core: the figures are losses, not times.
"""

import argparse
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from from_scratch import base_of, prepare, train

from pipeline.stages.pretrain import Pretrain
from pipeline.training.allocation import ALLOCATION


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("size", help="of conf/size")
    parser.add_argument("settings", nargs="*", help="FIELD=VALUE[,VALUE...] of the training node")
    parser.add_argument(
        "--keep", type=Path, default=Path(".tuning"), help="store and results (default .tuning)"
    )
    options = parser.parse_args()
    keep = options.keep.absolute()
    prepare(keep / "store")
    os.environ |= ALLOCATION
    chosen = list(combinations(options.settings))
    stages = [base_of(options.size, *words) for words in chosen]
    num_jobs = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(num_jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        for words, figures in zip(chosen, pool.map(known, repeat(keep), stages), strict=True):
            shown = f"{figures['eval/bits_per_byte']:.4f} bits per byte, {figures['seconds']:.0f} s"
            print(options.size, *words, shown, flush=True)
    return 0


def combinations(settings: list[str]) -> Iterator[tuple[str, ...]]:
    """Every choice of one value for each field."""
    fields = [setting.partition("=") for setting in settings]
    choices = [[f"{name}={value}" for value in values.split(",")] for name, _, values in fields]
    return itertools.product(*choices)


def known(keep: Path, stage: Pretrain) -> dict[str, float]:
    """What the training came to, now or earlier."""
    file = keep / f"{hashlib.sha256(repr(stage).encode()).hexdigest()[:16]}.json"
    if not file.exists():
        file.write_text(json.dumps(train(keep / "store", stage, threads=1)))
    figures: dict[str, float] = json.loads(file.read_text())
    return figures


if __name__ == "__main__":
    sys.exit(main())
