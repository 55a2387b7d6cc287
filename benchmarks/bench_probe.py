"""What a probe says a training step takes, against what the steps of the training take: several sizes, 1 and 2 ranks.

Each round probes and trains in fresh processes, one after the other. The training's figure is the mean of all its steps
but the first; the ratio is the median over rounds.

Limit: within 20% for every size.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measure import Limit, Result, arguments, publish
from trainings import on_ranks, order_in, write_tokens

from data.tokenizer_training import TokenizerRules, train_tokenizer
from model.config import LlamaConfig
from pipeline.dag.resources import Resources
from pipeline.training.config import Precision, TrainingConfig

SIZES = {
    "1M": (128, 4, 4096, 128),
    "8M": (320, 6, 8192, 256),
    "27M": (512, 8, 8192, 256),
}
"Width, layers, vocabulary, and tokens of a sequence."
TOLERANCE = 0.20


@dataclass(frozen=True)
class Case:
    size: str
    ranks: int
    precision: str

    def __str__(self) -> str:
        return f"{self.size}, {self.precision}, {self.ranks} rank{'s' * (self.ranks > 1)}"

    @property
    def model(self) -> LlamaConfig:
        width, layers, vocab_size, seq_len = SIZES[self.size]
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=128 * round(width * 8 / 3 / 128),
            num_layers=layers,
            num_heads=width // 64,
            num_kv_heads=width // 64,
            max_seq_len=seq_len,
            tie_embeddings=True,
        )

    def training(self, *, num_steps: int) -> TrainingConfig:
        seq_len = SIZES[self.size][3]
        return TrainingConfig(
            num_steps=num_steps,
            warmup_steps=1,
            seq_len=seq_len,
            global_batch_tokens=4 * seq_len,
            precision=Precision[self.precision],
        )


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--steps", type=int, default=12, help="of each training (default %(default)s)")
    options = parser.parse_args()
    limits, facts = [], {}
    for size in options.sizes:
        for ranks in options.ranks:
            for precision in options.precisions:
                case = Case(size, ranks, precision)
                rounds = [_round(case, num_steps=options.steps) for _ in range(options.repeats)]
                off = statistics.median(predicted / real for predicted, real in rounds) - 1
                limits.append(Limit(str(case), abs(off), most=TOLERANCE))
                facts[str(case)] = [{"predicted": predicted, "real": real} for predicted, real in rounds]
                print(limits[-1], f"({off:+.1%})", flush=True)
    result = Result("seconds of a step, off what a probe predicted", limits=limits, facts=facts)
    return 0 if publish([result], json_file=options.json) else 1


def _round(case: Case, *, num_steps: int) -> tuple[float, float]:
    """Seconds per step: predicted, and of the training."""
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(["one two three"], rules=TokenizerRules(vocab_size=300)).save(
            Path(folder) / "tokenizer"
        )
        write_tokens(Path(folder) / "tokens", rows=40, vocab_size=SIZES[case.size][2])
        predicted = on_ranks(_probed, case, folder, num_steps, world_size=case.ranks)
        on_ranks(_trained, case, folder, num_steps, world_size=case.ranks)
        history = Path(folder) / "work/output/logs/metrics.jsonl"
        return predicted[0], _mean_step(history, case.training(num_steps=num_steps))


def _probed(case: Case, folder: str, num_steps: int) -> float:
    from pipeline.training.probe import probe

    order = _order(case, folder, num_steps, "probe")
    seconds: float = probe(replace(order, job=replace(order.job, train_tokens={}))).metrics[
        "seconds_per_step"
    ]
    return seconds


def _trained(case: Case, folder: str, num_steps: int) -> None:
    from pipeline.training.worker import work

    work(_order(case, folder, num_steps, "work"))


def _order(case: Case, folder: str, num_steps: int, run: str) -> Any:
    resources = Resources(
        num_workers=case.ranks, num_gpus=0, cpus_per_worker=1, checkpoint_every_steps=num_steps
    )
    return order_in(folder, case.training(num_steps=num_steps), resources, model=case.model, run=run)


def _mean_step(path: Path, training: TrainingConfig) -> float:
    lines = [json.loads(line)["metrics"] for line in path.read_text().splitlines()]
    rates = [line["train/tokens_per_second"] for line in lines if "train/tokens_per_second" in line]
    return statistics.mean(training.global_batch_tokens / rate for rate in rates[1:])


if __name__ == "__main__":
    sys.exit(main())
