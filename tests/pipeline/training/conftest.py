"""A small corpus of tokens, and one process group of a single rank for the tests that need an engine."""

import itertools
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from data.shards import TokenFormat, TokenRow, TokenWriter
from data.tokenizer_training import TokenizerRules, train_tokenizer
from model.config import LlamaConfig
from pipeline.dag.folder import Folder, open_folder
from pipeline.dag.resources import Resources
from pipeline.training.config import Precision, TrainingConfig
from pipeline.training.job import TrainingJob, TrainingResult
from tests.pipeline.training.launcher import VOCAB_SIZE, Launcher
from tests.pipeline.training.ranks import Rank, start

HASH = "f" * 16


class ListChannel:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.events: list[dict] = []

    def send(self, event: dict) -> None:
        self.events.append(event)


def write_tokens(path: Path, *, num_rows: int, seed: int) -> Folder:
    """Rows of a noisy counting language, so that there is something to learn."""
    path.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    with TokenWriter(path / "tokens-00000.arrow", token_format=TokenFormat(HASH, VOCAB_SIZE, 0)) as writer:
        for row in range(num_rows):
            start, length = draw.integers(1, VOCAB_SIZE), draw.integers(20, 90)
            ids = 1 + (start + np.arange(length) * (1 + row % 3)) % (VOCAB_SIZE - 1)
            ids = np.where(draw.random(length) < 0.1, draw.integers(1, VOCAB_SIZE, length), ids)
            writer.write(TokenRow(f"doc-{seed}-{row}", "made.txt", 3 * length, np.append(ids, 0)))
    return open_folder(str(path))


def tiny_model() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=None,
        hidden_size=32,
        intermediate_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        max_seq_len=64,
        tie_embeddings=True,
    )


def tiny_training(**changes: object) -> TrainingConfig:
    settings = {
        "num_steps": 12,
        "global_batch_tokens": 8 * 32,
        "seq_len": 32,
        "learning_rate": 3e-3,
        "warmup_steps": 4,
        "precision": Precision.fp32,
    }
    return TrainingConfig(**(settings | changes))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Folder]:
    root = tmp_path_factory.mktemp("corpus")
    train_tokenizer(["one two three"], rules=TokenizerRules(vocab_size=300)).save(root / "tokenizer")
    return {
        "train": write_tokens(root / "train", num_rows=300, seed=1),
        "validation": write_tokens(root / "validation", num_rows=40, seed=2),
        "tokenizer": open_folder(str(root / "tokenizer")),
    }


@pytest.fixture(scope="session")
def make_job(corpus: dict[str, Folder]) -> Callable[..., TrainingJob]:
    """A job of a tiny model on the corpus; keywords change its training config, `job` the job."""

    def make(job: dict | None = None, **changes: object) -> TrainingJob:
        settings = {
            "model": tiny_model(),
            "training": tiny_training(**changes),
            "train_tokens": {"train": corpus["train"]},
            "validation_tokens": corpus["validation"],
            "tokenizer": corpus["tokenizer"],
            "tokenizer_hash": HASH,
        }
        return TrainingJob(**(settings | (job or {})))

    return make


@dataclass
class Here:
    """Training in this very process, as the only rank."""

    root: Path
    channel: ListChannel

    def run(self, job: TrainingJob, name: str, **resources: object) -> TrainingResult:
        from pipeline.training.worker import Order, work

        scratch, output = self.folders(name)
        return work(Order(job, Resources(**resources), self.channel, scratch, output, time.time()))

    def folders(self, name: str) -> tuple[Folder, Folder]:
        return open_folder(str(self.root / name / "scratch")), open_folder(str(self.root / name / "output"))

    def weights(self, name: str) -> bytes:
        return (self.root / name / "output/model.safetensors").read_bytes()

    def losses(self, name: str) -> list[float]:
        return losses_in(self.root / name)

    def notes(self) -> str:
        return "\n".join(event["text"] for event in self.channel.events if event["kind"] == "note")


@pytest.fixture
def here(tmp_path: Path, process_group: None) -> Here:
    return Here(tmp_path, ListChannel())


def losses_in(folder: Path) -> list[float]:
    lines = (folder / "output/logs/metrics.jsonl").read_text().splitlines()
    found = [json.loads(line)["metrics"].get("train/loss") for line in lines]
    return [loss for loss in found if loss is not None]


@pytest.fixture
def process_group() -> None:
    """This process as the only rank; of one thread, since others want the cores too."""
    import torch.distributed as dist

    from pipeline.training.runtime import prepare_process

    prepare_process(threads=1)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    if not dist.is_initialized():
        store = dist.HashStore()
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)


@dataclass
class Runs:
    """Training in processes of its own, and what it left."""

    root: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def order(self, job: TrainingJob, name: str, **resources: object) -> dict:
        return {
            "job": job,
            "resources": Resources(**resources),
            "scratch": open_folder(str(self.root / name / "scratch")),
            "output": open_folder(str(self.root / name / "output")),
            "ordered_at": time.time(),
        }

    def run(self, orders: list[dict], *, world_size: int) -> None:
        """Work the orders off on that many gloo ranks."""
        ranks = self.start(orders, world_size=world_size)
        assert [rank.ended() for rank in ranks] == [0] * world_size, [rank.said for rank in ranks]

    def start(self, orders: list[dict], *, world_size: int) -> list[Rank]:
        """The processes of the ranks."""
        number = next(self.numbers)
        self.root.mkdir(exist_ok=True)
        path = self.root / f"orders-{number}.pickle"
        path.write_bytes(pickle.dumps(orders))
        return start(path, world_size=world_size, store=self.root / f"store-{number}")

    def losses(self, name: str) -> list[float]:
        return losses_in(self.root / name)

    def weights(self, name: str) -> bytes:
        return (self.root / name / "output/model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


KILLED_STEPS = 200
KILLED = {"num_workers": 2, "zero_stage": 2, "checkpoint_every_steps": 10}
"""Resources of trainings that something happens to."""


@pytest.fixture(scope="session")
def whole(runs: Runs, make_job: Callable[..., TrainingJob]) -> tuple[TrainingJob, bytes]:
    """A job, and its weights where nothing happens to it."""
    job = make_job(num_steps=KILLED_STEPS)
    runs.run([runs.order(job, "whole", **KILLED)], world_size=2)
    return job, runs.weights("whole")


@pytest.fixture(scope="module")
def ray_cluster():
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.fixture
def launcher(ray_cluster, tmp_path):
    return Launcher(ray_cluster, tmp_path)


@pytest.fixture(scope="session")
def plain_losses(corpus: dict[str, Folder]) -> Callable[..., list[float]]:
    """Losses of a job trained as anyone would write it, with optimizers made by `build(model, config)`."""

    def train(job: TrainingJob, build: Callable) -> list[float]:
        import torch

        from data.batches import TrainingBatches
        from data.packed import PackedSequences
        from data.shards import TokenShards
        from model.registry import build_model

        config = job.training
        shards = TokenShards(sorted(corpus["train"].local().glob("*.arrow")))
        pool = PackedSequences(shards, seq_len=config.seq_len)
        batches = TrainingBatches([pool], sequences_per_step=config.sequences_per_step, seed=config.seed)
        torch.manual_seed(config.seed)
        model = build_model(job.model.with_vocab_size(shards.format.vocab_size))
        optimizers = build(model, config)
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        return [plain_step(model, optimizers, batches, config, step) for step in range(config.num_steps)]

    return train


def plain_step(model, optimizers, batches, config, step) -> float:
    import torch
    import torch.nn.functional as F

    from pipeline.training.schedule import learning_rate_at

    per_step = config.sequences_per_step
    batch = batches.batch(step, rank=0, world_size=1, micro_step=0, micro_batch_size=per_step)
    logits = model(torch.from_numpy(batch["input_ids"]))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch["labels"]).flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config, config.length())
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()
