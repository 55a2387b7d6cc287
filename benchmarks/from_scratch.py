"""The recipe `from_scratch` without Ray: its text as tokens, and trainings of its base on them, in this process."""

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainings import NEVER, Silent, join

from data.tokenizer import Tokenizer
from pipeline.config import compose_recipe
from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources
from pipeline.stages.pretrain import Pretrain
from pipeline.stages.training_node import training_config
from pipeline.training.job import TrainingJob

HEADRACE = Path(sys.executable).with_name("headrace")
RECIPE = "recipe=from_scratch"
ALL = 1 << 30


def prepare(store: Path) -> None:
    """Make the tokens, or find them made."""
    subprocess.run([HEADRACE, "run", "tokens", RECIPE, f"store={store}"], check=True)


def base_of(size: str, *settings: str) -> Pretrain:
    """The training node in a size of conf/size, with settings of FIELD=VALUE."""
    overrides = [f"stages.base.{each}" for each in settings]
    stage: Any = compose_recipe([RECIPE, f"size@stages.base={size}", *overrides]).config.stages["base"]
    return stage


def tokens_in(store: Path) -> Path:
    """The folder of a split's folders of shards."""
    (found,) = store.glob("artifacts/tokenize/*")
    return found


def tokenizer_in(store: Path) -> Tokenizer:
    (found,) = store.glob("artifacts/tokenizer/*")
    return Tokenizer.load(found)


def train(store: Path, stage: Pretrain, *, threads: int | None = None) -> dict[str, float]:
    """The metrics of a training, evaluated on all held-out text; `seconds` are those of its steps.

    This process becomes its one rank, with `threads` threads (None: as many as cores), for this once.
    """
    with tempfile.TemporaryDirectory() as folder:
        join(folder, threads=threads)
        from pipeline.training.pulse import Pulse
        from pipeline.training.ranks import current_ranks
        from pipeline.training.worker import Order, assemble

        tokens = tokens_in(store)
        (tokenizer,) = store.glob("artifacts/tokenizer/*")
        job = TrainingJob(
            model=stage.model,
            training=replace(training_config(stage), eval_max_sequences=ALL),
            train_tokens={"tokens": open_folder(str(tokens / "train"))},
            validation_tokens=open_folder(str(tokens / "validation")),
            tokenizer=open_folder(str(tokenizer)),
            tokenizer_hash=Tokenizer.load(tokenizer).hash,
        )
        resources = Resources(num_gpus=0, compile=False, checkpoint_every_steps=NEVER)
        places = open_folder(f"{folder}/scratch"), open_folder(f"{folder}/output")
        training = assemble(Order(job, resources, Silent(), *places, time.time()), current_ranks(), Pulse())
        began = time.monotonic()
        training.run(range(training.corpus.learned.length.num_steps))
        return training.recorder.newest() | {"seconds": time.monotonic() - began}
