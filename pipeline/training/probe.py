"""A few real steps of the real model on the real device, with random tokens: how long one takes, and what a rank holds.

Nothing is trained: the learning rate is 0, and no weight, checkpoint or artifact is written.
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np

from data.batches import TrainingBatches
from data.shards import TokenFormat, TokenRow, TokenShards, TokenWriter
from model.config import ModelConfig
from pipeline.training.config import Packing, TrainingConfig
from pipeline.training.corruption import stand_in_corruption
from pipeline.training.high_water import HighWater
from pipeline.training.job import TrainingResult
from pipeline.training.loop import train_step
from pipeline.training.ranks import current_ranks
from pipeline.training.runtime import device_of_rank, import_deepspeed
from pipeline.training.sources import build_pool
from pipeline.training.throughput import measure_matmul_roof
from pipeline.training.worker import Order, build_engine, measure_first_steps, watch

DOCUMENT_TOKENS = 500
MOST_TOKENS = 1 << 22
"Of the random text; a step that takes more reads it again."


def probe(order: Order) -> TrainingResult:
    """Measure the job's steps, all ranks together; each has its own copy of the same random tokens."""
    job, ranks = order.job, current_ranks()
    assert job.model.vocab_size is not None, "the vocabulary's size decides what is measured"
    with watch(order, ranks) as pulse, tempfile.TemporaryDirectory(prefix="headrace-probe-") as folder:
        batches = random_batches(Path(folder), job.training, job.model)
        import_deepspeed()  # what it holds is no part of the training's memory
        high_water = HighWater(device_of_rank())
        engine = build_engine(order, job.model.vocab_size, ranks)
        engine.pulse = pulse
        roof = measure_matmul_roof(engine.device, job.training.precision) * ranks.world_size
        first = measure_first_steps(order, job.model, ranks, high_water, roof)
        records = (
            train_step(engine, batches, ranks=ranks, step=step, learning_rate=0.0)
            for step in itertools.count()
        )
        pace = next(pace for record in records if (pace := first.offer(record)))
    metrics = {"seconds_per_step": pace.seconds_per_step, "bytes_per_rank": pace.bytes_per_rank}
    return TrainingResult({"steps": pace.num_steps}, metrics | {"mfu": pace.mfu})


def random_batches(folder: Path, training: TrainingConfig, model: ModelConfig) -> TrainingBatches:
    """Batches of the training's shape, out of a shard of random tokens that is written into `folder`."""
    vocab_size = model.vocab_size
    assert vocab_size is not None, "the vocabulary's size decides what is measured"
    draw = np.random.default_rng(training.seed)
    num_tokens = min(MOST_TOKENS, (training.sequences_per_step + 1) * (training.seq_len + 1))
    path = folder / "tokens-00000.arrow"
    with TokenWriter(path, token_format=TokenFormat("", vocab_size, 0)) as writer:
        for row in range(-(-max(num_tokens, 2 * training.seq_len) // DOCUMENT_TOKENS)):
            ids = draw.integers(0, vocab_size, DOCUMENT_TOKENS)
            writer.write(TokenRow(str(row), "random", DOCUMENT_TOKENS, ids))
    pool = build_pool(TokenShards([path]), training, Packing.concatenate)
    return TrainingBatches(
        [pool],
        sequences_per_step=training.sequences_per_step,
        seed=training.seed,
        corruption=stand_in_corruption(training, model),
    )
