"""The first steps of a training: measured, remembered for later plans, and told as how long all of it will take."""

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch

from model.config import ModelConfig
from pipeline.dag.resources import Resources
from pipeline.training.config import TrainingConfig
from pipeline.training.high_water import GIB, HighWater
from pipeline.training.pace import Pace, Paces, conditions, cpu_name, in_seconds, in_words, step_flops
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import Recorder, StepRecord

WARM_STEPS = 1
"Not counted: memory is asked for, and kernels are chosen."
LEAST_STEPS, MOST_STEPS = 2, 20
ENOUGH_SECONDS = 1.0
"More than the least steps are measured where they are so short that together they take less."


@dataclass
class FirstSteps:
    """Measures the first few steps; the calls are made by all ranks together."""

    model: ModelConfig
    "With its vocabulary."
    training: TrainingConfig
    resources: Resources
    "As they were settled."
    ranks: Ranks
    high_water: HighWater
    roof: float
    "Operations a second that all ranks could do."
    paces: Paces | None
    "Where it is remembered."
    teacher: ModelConfig | None = None
    _seconds: list[float] = field(default_factory=list, init=False)
    _num_wanted: int = field(default=LEAST_STEPS, init=False)
    _is_done: bool = field(default=False, init=False)

    def offer(self, record: StepRecord) -> Pace | None:
        """Called after each step; the measurement, once, when there are enough steps."""
        if self._is_done:
            return None
        self._seconds.append(record.seconds)
        measured = self._seconds[WARM_STEPS:]
        if len(measured) == LEAST_STEPS:
            self._num_wanted = self._wanted(measured)
        if len(measured) < self._num_wanted:
            return None
        self._is_done = True
        return self._pace(measured)

    def _wanted(self, measured: Sequence[float]) -> int:
        """How many steps are enough; the first rank's word holds."""
        seconds: float = self.ranks.gather(statistics.mean(measured))[0]
        return min(MOST_STEPS, max(LEAST_STEPS, math.ceil(ENOUGH_SECONDS / seconds)))

    def _pace(self, measured: Sequence[float]) -> Pace:
        seconds: float = self.ranks.gather(statistics.median(measured))[0]
        held = max(self.ranks.gather(self.high_water.take(len(measured))["train/memory_gib"])) * GIB
        rate = step_flops(self.model, self.training, self.teacher) / seconds / self.ranks.world_size
        mfu = rate * self.ranks.world_size / self.roof
        pace = Pace(device_name(), seconds, held, rate, mfu, len(measured))
        if self.paces and self.ranks.is_first:
            here = replace(self.resources, num_workers=self.ranks.world_size)
            with suppress(
                OSError
            ):  # the store is away for a moment: later plans know less, and training goes on
                given = conditions(self.model, self.training, here, self.teacher)
                self.paces.remember(given, pace)
        return pace


@dataclass
class Outset:
    """Tells, as soon as it is known, how long the run will take."""

    first_steps: FirstSteps
    recorder: Recorder
    last_step: int
    first_step: int
    "From which it goes on."

    def offer(self, record: StepRecord) -> dict[str, float]:
        """Called after each training step."""
        pace = self.first_steps.offer(record)
        if pace and record.step < self.last_step:
            steps = self.last_step - self.first_step
            self.recorder.say(
                f"predicted: {in_words(steps * pace.seconds_per_step)} for {steps:,} steps of "
                f"{in_seconds(pace.seconds_per_step)}, evaluations and checkpoints apart; {100 * pace.mfu:.0f}% of the "
                f"matmul roof, {pace.bytes_per_rank / GIB:.3g} GiB per rank"
            )
        return {}


def device_name() -> str:
    """What a rank of this process computes on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
