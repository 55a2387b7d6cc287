"""What of a step is not the model's: at most 2%; and what it costs to show time, memory and norms by layer: at most 1%.

A training of 32M parameters in bf16 at 4 x 512 tokens a step says itself, on one rank, how much of a step is neither
forward, backward, exchange nor optimizer: data, records, the loop.

One CPU rank trains a 27M LLaMA in bf16 on 4 x 256 tokens a step, which is short: a record costs the same in a
longer one. Each cost is measured apart, so that noise does not drown it: handing the clock over and looking at
memory in a tight loop, and a look at the norms as the difference of optimizer steps with and without it, in turn.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from measure import Limit, Result, arguments, publish
from trainings import endless, join, order_in, write_tokens

from model.config import LlamaConfig
from model.objectives import CausalLM
from model.registry import build_model
from pipeline.dag.resources import Resources
from pipeline.training.config import TrainingConfig, split_batch
from pipeline.training.engine import Engine
from pipeline.training.high_water import HighWater
from pipeline.training.norms import DEFAULT_EVERY_STEPS, Norms
from pipeline.training.recorder import StepRecord
from pipeline.training.timing import Part

SEQUENCES, SEQ_LEN, VOCAB = 4, 256, 16384
MOST, MOST_BESIDE = 0.01, 0.02
OF_THE_MODEL = (Part.forward, Part.backward, Part.exchange, Part.optimizer)
LOOPS = 10_000


@dataclass
class Seconds:
    """Of each step, and of its optimizer, with and without a look at the norms."""

    steps: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    looking: list[float] = field(default_factory=list)

    @property
    def look(self) -> float:
        pairs = zip(self.looking, self.plain, strict=True)
        return statistics.median(looking - plain for looking, plain in pairs)


def main() -> int:
    options = arguments(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        join(folder)
        beside = _beside(folder, 2 + options.repeats)
    engine = _engine()
    found = _train(engine, options.repeats)
    step = statistics.median(found.steps)
    high_water = HighWater(engine.device)
    parts = _parts_in_a_step(engine) * _seconds_each(lambda: _pass(engine))
    memory = _seconds_each(lambda: high_water.take(1))
    costs = {
        "time by part, every step": parts / step,
        "memory, every step": memory / step,
        f"norms by layer, every {DEFAULT_EVERY_STEPS} steps": found.look / DEFAULT_EVERY_STEPS / step,
    }
    limits = [Limit(f"part of a step: {what}", cost, most=MOST) for what, cost in costs.items()]
    limits.append(Limit("part of a step: together", sum(costs.values()), most=MOST))
    limits.append(Limit("part of a step that is not the model's", beside, most=MOST_BESIDE))
    facts = {"step_seconds": step, "look_seconds": found.look}
    return (
        0
        if publish([Result("What showing costs", limits=limits, facts=facts)], json_file=options.json)
        else 1
    )


class Kept:
    """A channel that keeps the metrics of each step."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def send(self, event: dict[str, Any]) -> None:
        if event["kind"] == "metrics":
            self.metrics.append(event["metrics"])


def _beside(folder: str, num_steps: int) -> float:
    """Median part of the steps of a whole training, but the first two, that goes to nothing of the model's."""
    from pipeline.training.pulse import Pulse
    from pipeline.training.ranks import current_ranks
    from pipeline.training.worker import assemble

    write_tokens(Path(folder) / "tokens")
    kept = Kept()
    config = endless(512, 2048)
    order = order_in(folder, config, Resources(num_gpus=0, compile=False), channel=kept)
    assemble(order, current_ranks(), Pulse()).run(range(num_steps))
    steps = [each for each in kept.metrics if "time/step" in each][2:]
    own = [sum(each.get(f"time/{part.value}", 0.0) for part in OF_THE_MODEL) for each in steps]
    return statistics.median(1 - model / each["time/step"] for model, each in zip(own, steps, strict=True))


def _engine() -> Engine:
    shape = {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_layers": 6,
        "num_heads": 8,
        "num_kv_heads": 8,
    }
    config = TrainingConfig(global_batch_tokens=SEQUENCES * SEQ_LEN, seq_len=SEQ_LEN)
    split = split_batch(config, world_size=1, micro_batch_size=SEQUENCES)
    model = build_model(LlamaConfig(vocab_size=VOCAB, max_seq_len=SEQ_LEN, tie_embeddings=True, **shape))
    return Engine(CausalLM(model), config, resources=Resources(), split=split)


def _train(engine: Engine, repeats: int) -> Seconds:
    """Steps with and without a look, in turn, after one of each that does not count."""
    norms = Norms(engine, 2, next_step=1, last_step=0)
    found = Seconds()
    for step in range(1, 2 * (repeats + 1) + 1):
        begun = time.perf_counter()
        _accumulate(engine)
        between = time.perf_counter()
        outcome = engine.apply(1e-3)
        norms.offer(StepRecord(step, 0.0, 1e-3, outcome.grad_norm, 0.0))
        ended = time.perf_counter()
        if step > 2:
            (found.plain if step % 2 else found.looking).append(ended - between)
            found.steps += [ended - begun] if step % 2 else []
    return found


def _accumulate(engine: Engine) -> None:
    tokens = torch.randint(VOCAB, (SEQUENCES, SEQ_LEN + 1)).numpy()
    batch = {"input_ids": tokens[:, :-1].copy(), "labels": tokens[:, 1:].copy()}
    engine.accumulate(batch, num_targets=SEQUENCES * SEQ_LEN, last=True)


def _parts_in_a_step(engine: Engine) -> int:
    """Times that the clock is handed over and back: by the engine, and twice by the loop for the data."""
    count, part = 2, engine.timing.part

    def counted(which: Part) -> object:
        nonlocal count
        count += 1
        return part(which)

    engine.timing.part = counted
    _accumulate(engine)
    engine.apply(1e-3)
    del engine.timing.part
    return count


def _pass(engine: Engine) -> None:
    with engine.timing.part(Part.data):
        pass


def _seconds_each(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in range(LOOPS):
        call()
    return (time.perf_counter() - begun) / LOOPS


if __name__ == "__main__":
    sys.exit(main())
