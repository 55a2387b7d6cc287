"""One recipe at ZeRO 0, 1, 2, 3 and on 1 and 2 ranks: the same fingerprint, and the same losses over 50 steps.

Limits: largest difference of a step's loss from ZeRO 0 on one rank, 1e-4 in fp32 and 5e-3 in bf16. They are for a
learning rate at which training is stable. At the quickstart's 3e-3 the first steps are chaotic: another micro batch
alone, on one rank at ZeRO 0, makes 2e-3 of the last digits within 50 steps.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from measure import Limit, Result, arguments, publish

HEADRACE = Path(sys.executable).with_name("headrace")
LIMITS = {"fp32": 1e-4, "bf16": 5e-3}
STAGES, RANKS, NUM_STEPS = (0, 1, 2, 3), (1, 2), 50
RECIPE = [
    f'stages.corpus.paths=["{sysconfig.get_path("stdlib")}/[aej]*/*.py"]',
    f"stages.base.num_steps={NUM_STEPS}",
    "stages.base.warmup_steps=10",
    "stages.base.seq_len=128",
    "stages.base.global_batch_tokens=2048",
    "stages.base.eval_max_sequences=16",
]


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--precisions", nargs="+", default=list(LIMITS), choices=LIMITS)
    parser.add_argument("--stages", nargs="+", type=int, default=list(STAGES))
    parser.add_argument(
        "--learning-rate", type=float, default=3e-4, help="default: a rate at which training is stable"
    )
    parser.add_argument("--ranks", nargs="+", type=int, default=list(RANKS))
    options = parser.parse_args()
    results = []
    keys: dict[str, set[str]] = {precision: set() for precision in options.precisions}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        _run(root / "data", "tokens")
        for precision in options.precisions:
            reference: list[float] = []
            for ranks in options.ranks:
                for stage in options.stages:
                    began = time.monotonic()
                    key, losses = _losses(root, precision, stage, ranks, options.learning_rate)
                    keys[precision].add(key)
                    reference = reference or losses
                    difference = max(abs(a - b) for a, b in zip(losses, reference, strict=True))
                    limits = [
                        Limit("largest difference of a loss", difference, most=LIMITS[precision]),
                        Limit("steps", len(losses), least=NUM_STEPS, most=NUM_STEPS),
                    ]
                    facts = {"last_loss": losses[-1], "seconds": time.monotonic() - began}
                    results.append(
                        Result(f"{precision}, ZeRO {stage}, {ranks} ranks", limits=limits, facts=facts)
                    )
                    print(results[-1].title, *map(str, limits), sep="; ", flush=True)
    one_key = [Limit(f"fingerprints of {name}", len(found), most=1) for name, found in keys.items()]
    results.append(Result("Circumstance is not identity", limits=one_key))
    return 0 if publish(results, json_file=options.json) else 1


def _losses(
    root: Path, precision: str, stage: int, ranks: int, learning_rate: float
) -> tuple[str, list[float]]:
    """Fingerprint and losses of one configuration, trained in a store of its own that has the data already."""
    store = root / f"{precision}-{stage}-{ranks}"
    shutil.copytree(root / "data", store)
    circumstance = [f"resources.base.zero_stage={stage}", f"resources.base.num_workers={ranks}"]
    settings = [f"stages.base.precision={precision}", f"stages.base.learning_rate={learning_rate}"]
    _run(store, "base", *settings, *circumstance)
    (history,) = (store / "artifacts" / "pretrain").glob("*/logs/metrics.jsonl")
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    losses = [row["metrics"]["train/loss"] for row in rows if "train/loss" in row["metrics"]]
    shutil.rmtree(store)
    return history.parent.parent.name, losses


def _run(store: Path, *words: str) -> None:
    done = subprocess.run(
        [HEADRACE, "run", f"store={store}", *RECIPE, *words], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


if __name__ == "__main__":
    sys.exit(main())
