"""What checkpoints cost: blocks of steps with one in the middle, against blocks without, in turn, in one process.

Model: 32M parameters, bf16, one rank on every core of the machine: the thread that writes takes its share of them. What
a block takes longer for its checkpoint is held against the time of 50 steps. Beside it the time for which training
stands still, and how long a new worker takes from its start, imports aside (those of torch's compiler too), until it
has made the step after the checkpoint.

Limits: 1% of the time, 15 s until the next step.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from measure import Limit, Result, arguments, publish
from trainings import NEVER, endless, join, order_in, write_tokens

EVERY_STEPS = 50
COMPILER = ("torch._dynamo", "torch._inductor.compile_fx")
"""Imported by a run that is compiled."""
BLOCK_STEPS = 8
"""Enough for a checkpoint in the middle to be written before the end."""


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--tokens", type=int, default=4096, help="of a step (default 4096)")
    parser.add_argument("--resume-in", metavar="FOLDER", help="for the benchmark itself")
    options = parser.parse_args()
    if options.resume_in:
        return resume(options.resume_in, options.tokens)
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder) / "tokens")
        costs, stalls, seconds = measured(folder, options.tokens, options.repeats)
        resumed = _resumed(folder, options.tokens)
    limits = [
        Limit("percent of the time", 100 * statistics.median(costs), most=1.0),
        Limit("seconds from a worker's start to the next step", resumed, most=15.0),
    ]
    facts = {
        "tokens a step": options.tokens,
        "seconds of a step": round(seconds, 2),
        "percent of each pair": [round(100 * each, 2) for each in costs],
        "training stands still, ms": [round(1000 * each) for each in stalls],
    }
    result = Result("a checkpoint every 50 steps", limits=limits, facts=facts)
    return 0 if publish([result], json_file=options.json) else 1


def measured(folder: str, tokens: int, repeats: int) -> tuple[list[float], list[float], float]:
    """Of each pair of blocks the fraction that the checkpoint adds; the stalls; seconds of a step."""
    order = _order(folder, tokens)
    join(folder)
    from pipeline.training.checkpointer import Checkpointer, Rhythm
    from pipeline.training.pulse import Pulse
    from pipeline.training.ranks import current_ranks
    from pipeline.training.worker import assemble

    training = assemble(order, current_ranks(), Pulse())
    stalls: list[float] = []

    class Timed(Checkpointer):
        def save(self, step: int) -> None:
            begun_at = time.perf_counter()
            super().save(step)
            stalls.append(time.perf_counter() - begun_at)

    def rhythm(every: int) -> Timed:
        return Timed(training.engine, order.scratch, training.ranks, training.recorder, Rhythm(every, NEVER))

    trainings = {every: replace(training, checkpointer=rhythm(every)) for every in (BLOCK_STEPS, NEVER)}

    def block(first: int, every_steps: int) -> float:
        begun_at = time.perf_counter()
        trainings[every_steps].run(range(first, first + BLOCK_STEPS))
        return time.perf_counter() - begun_at

    costs, steps = [], []
    for turn in range(repeats + 1):
        # Half a block off, so that the step at which a checkpoint is due lies in a block's middle.
        first = BLOCK_STEPS // 2 + 2 * BLOCK_STEPS * turn
        halves = [(first, BLOCK_STEPS), (first + BLOCK_STEPS, NEVER)]
        seconds = {every: block(begin, every) for begin, every in (halves, _exchanged(halves))[turn % 2]}
        each_step = seconds[NEVER] / BLOCK_STEPS
        costs.append((seconds[BLOCK_STEPS] - seconds[NEVER]) / (EVERY_STEPS * each_step))
        steps.append(each_step)
        sys.stderr.write(f"  pair {turn}: {costs[-1]:+.2%}, stall {1000 * stalls[-1]:.0f} ms\n")
    return costs[1:], stalls[1:], statistics.median(steps[1:])


def _exchanged(halves: list[tuple[int, int]]) -> list[tuple[int, int]]:
    (first, _), (second, _) = halves
    return [(first, NEVER), (second, BLOCK_STEPS)]


def _resumed(folder: str, tokens: int) -> float:
    """Seconds, in a new process."""
    command = [sys.executable, __file__, "--resume-in", folder, "--tokens", str(tokens)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def resume(folder: str, tokens: int) -> int:
    """Print the seconds until the first step after the checkpoint is recorded, and leave."""
    join(tempfile.mkdtemp())
    from pipeline.training.runtime import import_deepspeed
    from pipeline.training.worker import work

    import_deepspeed()
    for name in COMPILER:
        import_module(name)
    work(_order(folder, tokens, channel=UntilAStep(time.perf_counter())))
    return 1


class UntilAStep:
    """Ends the process at the first step that is told."""

    def __init__(self, begun_at: float) -> None:
        self._begun_at, self._is_resumed = begun_at, False

    def send(self, event: dict[str, Any]) -> None:
        self._is_resumed |= "resumed from the checkpoint" in event.get("text", "")
        if event["kind"] == "metrics":
            assert self._is_resumed
            print(time.perf_counter() - self._begun_at, flush=True)
            os._exit(0)


def _order(folder: str, tokens: int, *, channel: Any = None) -> Any:
    return order_in(folder, endless(512, tokens), channel=channel)


if __name__ == "__main__":
    sys.exit(main())
