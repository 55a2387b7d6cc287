"""A training on one rank in this process, its parts at hand: for what is measured of the trainer itself."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from data.shards import TokenFormat, TokenRow, TokenWriter
from model.config import LlamaConfig
from pipeline.dag.folder import Folder, open_folder
from pipeline.dag.resources import Resources
from pipeline.training.config import TrainingConfig
from pipeline.training.job import TrainingJob

VOCAB_SIZE = 16384
MODEL = LlamaConfig(
    vocab_size=VOCAB_SIZE,
    hidden_size=512,
    intermediate_size=1408,
    num_layers=8,
    num_heads=8,
    num_kv_heads=4,
    max_seq_len=1024,
    tie_embeddings=True,
)
"32M parameters."
HASH = "f" * 16
NEVER = 1 << 40


class Silent:
    """A channel that keeps to itself."""

    def send(self, event: dict[str, Any]) -> None:
        del event


def write_tokens(folder: Path, *, rows: int = 200) -> None:
    """Rows of 2,000 random tokens."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    token_format = TokenFormat(HASH, VOCAB_SIZE, 0)
    with TokenWriter(folder / "tokens-00000.arrow", token_format=token_format) as writer:
        for row in range(rows):
            ids = np.append(draw.integers(1, VOCAB_SIZE, 2000), 0)
            writer.write(TokenRow(str(row), "made", 8000, ids))


def order_in(
    folder: str, training: TrainingConfig, resources: Resources | None = None, *, channel: Any = None
) -> Any:
    """To train `MODEL` on the tokens of `folder`."""
    from pipeline.training.worker import Order

    def place(name: str) -> Folder:
        return open_folder(f"{folder}/{name}")

    job = TrainingJob(
        model=MODEL,
        training=training,
        train_tokens={"tokens": place("tokens")},
        tokenizer=place("tokenizer"),
        tokenizer_hash=HASH,
    )
    resources = resources or Resources(num_gpus=0)
    return Order(job, resources, channel or Silent(), place("scratch"), place("output"), time.time())


def join(folder: str, *, rank: int = 0, world_size: int = 1, threads: int | None = None) -> None:
    """This process becomes a rank, with `threads` threads (None: as many as cores)."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    from pipeline.training.runtime import prepare_process

    prepare_process(threads=threads or len(os.sched_getaffinity(0)))
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=world_size)
