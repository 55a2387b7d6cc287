"""What a probe says a training step takes, against what the steps of the training take: several sizes, 1 and 2 ranks.

Each round probes and trains in fresh processes, one after the other. The training's figure is the mean of all its steps
but the first; the ratio is the median over rounds.

Limit: within 20% for every size.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from measure import Limit, Result, arguments, publish

from data.shards import TokenFormat, TokenRow, TokenWriter
from data.tokenizer_training import TokenizerRules, train_tokenizer
from model.config import LlamaConfig
from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources
from pipeline.training.config import Precision, TrainingConfig
from pipeline.training.job import TrainingJob

SIZES = {
    "1M": (128, 4, 4096, 128),
    "8M": (320, 6, 8192, 256),
    "27M": (512, 8, 8192, 256),
}
"Width, layers, vocabulary, and tokens of a sequence."
HASH = "f" * 16
TOLERANCE = 0.20


@dataclass(frozen=True)
class Case:
    size: str
    ranks: int
    precision: str

    def __str__(self) -> str:
        return f"{self.size}, {self.precision}, {self.ranks} rank{'s' * (self.ranks > 1)}"

    def job(self, folder: str, *, num_steps: int) -> TrainingJob:
        width, layers, vocab, seq_len = SIZES[self.size]
        model = LlamaConfig(
            vocab_size=vocab,
            hidden_size=width,
            intermediate_size=128 * round(width * 8 / 3 / 128),
            num_layers=layers,
            num_heads=width // 64,
            num_kv_heads=width // 64,
            max_seq_len=seq_len,
            tie_embeddings=True,
        )
        training = TrainingConfig(
            num_steps=num_steps,
            warmup_steps=1,
            seq_len=seq_len,
            global_batch_tokens=4 * seq_len,
            precision=Precision[self.precision],
        )
        tokens, tokenizer = (open_folder(f"{folder}/{name}") for name in ("tokens", "tokenizer"))
        return TrainingJob(model, training, {"tokens": tokens}, tokenizer, HASH)


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
        _write_inputs(Path(folder), vocab_size=SIZES[case.size][2])
        predicted = _on_ranks(case, folder, num_steps=num_steps, task="probe")
        return predicted, _on_ranks(case, folder, num_steps=num_steps, task="work")


def _write_inputs(folder: Path, *, vocab_size: int) -> None:
    train_tokenizer(["one two three"], rules=TokenizerRules(vocab_size=300)).save(folder / "tokenizer")
    (folder / "tokens").mkdir()
    draw = np.random.default_rng(0)
    path = folder / "tokens/tokens-00000.arrow"
    with TokenWriter(path, token_format=TokenFormat(HASH, vocab_size, 0)) as writer:
        for row in range(40):
            ids = np.append(draw.integers(1, vocab_size, 2000), 0)
            writer.write(TokenRow(str(row), "made", 8000, ids))


def _on_ranks(case: Case, folder: str, *, num_steps: int, task: str) -> float:
    context = get_context("spawn")
    answers = context.Queue()
    given = (case, folder, num_steps, task, answers)
    ranks = [context.Process(target=_rank, args=(rank, *given)) for rank in range(case.ranks)]
    for each in ranks:
        each.start()
    seconds: float = answers.get(timeout=900)
    for each in ranks:
        each.join()
    return seconds


class Silent:
    def send(self, event: dict[str, Any]) -> None:
        del event


def _rank(rank: int, case: Case, folder: str, num_steps: int, task: str, answers: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(case.ranks)}
    from pipeline.training.runtime import prepare_process

    prepare_process(threads=1)
    import torch.distributed as dist

    store = f"file://{folder}/ranks-{task}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=case.ranks)
    from pipeline.training.probe import probe
    from pipeline.training.worker import Order, work

    job = case.job(folder, num_steps=num_steps)
    scratch, output = (open_folder(f"{folder}/{task}/{name}") for name in ("scratch", "output"))
    resources = Resources(
        num_workers=case.ranks, num_gpus=0, cpus_per_worker=1, checkpoint_every_steps=num_steps
    )
    order = Order(job, resources, Silent(), scratch, output, time.time())
    if task == "probe":
        seconds = probe(replace(order, job=replace(job, train_tokens={}))).metrics["seconds_per_step"]
    else:
        work(order)
        seconds = _mean_step(Path(folder) / f"{task}/output/logs/metrics.jsonl", job) if rank == 0 else 0.0
    if rank == 0:
        answers.put(seconds)
    dist.barrier()
    dist.destroy_process_group()


def _mean_step(path: Path, job: TrainingJob) -> float:
    lines = [json.loads(line)["metrics"] for line in path.read_text().splitlines()]
    rates = [line["train/tokens_per_second"] for line in lines if "train/tokens_per_second" in line]
    return statistics.mean(job.training.global_batch_tokens / rate for rate in rates[1:])


if __name__ == "__main__":
    sys.exit(main())
