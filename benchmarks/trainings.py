"""Trainings without Ray, on a rank in this process or on several of their own: for what is measured of the trainer."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from measure import Contender

from data.shards import TokenFormat, TokenRow, TokenWriter
from model.config import LlamaConfig
from pipeline.dag.folder import Folder, open_folder
from pipeline.dag.resources import Resources
from pipeline.training.allocation import ALLOCATION
from pipeline.training.config import Precision, TrainingConfig
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


def write_tokens(folder: Path, *, rows: int = 200, vocab_size: int = VOCAB_SIZE) -> None:
    """Rows of 2,000 random tokens."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    token_format = TokenFormat(HASH, vocab_size, 0)
    with TokenWriter(folder / "tokens-00000.arrow", token_format=token_format) as writer:
        for row in range(rows):
            ids = np.append(draw.integers(1, vocab_size, 2000), 0)
            writer.write(TokenRow(str(row), "made", 8000, ids))


def endless(seq_len: int, batch_tokens: int, precision: str = "bf16") -> TrainingConfig:
    """A training that goes on for as long as it is asked for steps; so it is one that is compiled."""
    return TrainingConfig(
        num_steps=NEVER,
        warmup_steps=1,
        seq_len=seq_len,
        global_batch_tokens=batch_tokens,
        precision=Precision[precision],
    )


def order_in(
    folder: str,
    training: TrainingConfig,
    resources: Resources | None = None,
    *,
    model: LlamaConfig = MODEL,
    channel: Any = None,
    run: str = "run",
) -> Any:
    """To train the model on the tokens of `folder`; what a run of a name writes lies there under its name."""
    from pipeline.training.worker import Order

    def place(name: str) -> Folder:
        return open_folder(f"{folder}/{name}")

    job = TrainingJob(
        model=model,
        training=training,
        train_tokens={"tokens": place("tokens")},
        tokenizer=place("tokenizer"),
        tokenizer_hash=HASH,
    )
    resources = resources or Resources(num_gpus=0)
    places = place(f"{run}/scratch"), place(f"{run}/output")
    return Order(job, resources, channel or Silent(), *places, time.time())


def join(folder: str, *, rank: int = 0, world_size: int = 1, threads: int | None = None) -> None:
    """This process becomes a rank, with `threads` threads (None: as many as cores)."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    from pipeline.training.runtime import prepare_process

    prepare_process(threads=threads or len(os.sched_getaffinity(0)))
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=world_size)


def on_ranks(function: Callable[..., Any], *given: Any, world_size: int) -> list[Any]:
    """What the function makes of the arguments in each of so many processes, which are ranks of one thread each."""
    ranks = Ranks(_answered, function, given, world_size=world_size, threads=1)
    return ranks.answers()


def _answered(connection: Connection, function: Callable[..., Any], given: Any) -> None:
    connection.send(function(*given))


class Ranks:
    """Processes of one group, each of which calls `function(connection, *given)`; told and asked by connections."""

    def __init__(
        self,
        function: Callable[..., None],
        *given: Any,
        world_size: int,
        threads: int | None = None,
        environment: Mapping[str, str] = ALLOCATION,
    ) -> None:
        context = get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._connections, self._processes = [], []
        with mock.patch.dict(os.environ, environment):  # what is started inherits it
            for rank in range(world_size):
                ours, theirs = context.Pipe()
                place = (self._folder.name, rank, world_size, threads)
                process = context.Process(target=_rank, args=(theirs, place, function, given), daemon=True)
                process.start()
                theirs.close()  # so that the end of the process is the end of what it says
                self._connections.append(ours)
                self._processes.append(process)

    def answers(self) -> list[Any]:
        """The next thing that each says."""
        return [each.recv() for each in self._connections]

    def tell(self, word: Any) -> None:
        for each in self._connections:
            each.send(word)


def _rank(
    connection: Connection, place: tuple[str, int, int, int | None], function: Callable[..., None], given: Any
) -> None:
    folder, rank, world_size, threads = place
    join(folder, rank=rank, world_size=world_size, threads=threads)
    function(connection, *given)
    import torch.distributed as dist

    dist.barrier()
    dist.destroy_process_group()


def in_turn(trainer: Callable[..., None], *given: Any, steps: int, units: float, **ranks: Any) -> Contender:
    """A trainer on ranks of its own, as it waits at its data loader for its turn to make so many steps.

    It is called with a function that makes an iterator of batches of a function that makes one, and with `given`.
    """
    group = Ranks(_begun, trainer, given, **ranks)
    group.answers()

    def turn() -> float:
        group.tell(steps)
        group.answers()
        return units

    return turn


def _begun(connection: Connection, trainer: Callable[..., None], given: Any) -> None:
    def when_told(batch: Callable[[], Any]) -> Iterator[Any]:
        while True:
            connection.send("waiting")
            try:
                steps = connection.recv()
            except EOFError:  # the measurement is over
                os._exit(0)
            for _ in range(steps):
                yield batch()

    trainer(when_told, *given)
