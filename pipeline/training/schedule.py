"""The learning rate as a pure function of the step."""

import math

from pipeline.training.config import Schedule, TrainingConfig


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """The learning rate of update `step` (0 is the first): a linear rise, then the schedule's fall.

    The first step of a warm-up is not zero, and the last step of the run has exactly the least learning rate.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    fall = max(1, config.num_steps - config.warmup_steps - 1)
    done = min(1.0, (step - config.warmup_steps) / fall)
    least = config.min_learning_rate_fraction
    return config.learning_rate * (least + (1 - least) * _remaining(config.schedule, done))


def _remaining(schedule: Schedule, done: float) -> float:
    """What is left of the peak, from 1 at `done` 0 to 0 at `done` 1."""
    if schedule is Schedule.constant:
        return 1.0
    if schedule is Schedule.linear:
        return 1.0 - done
    return 0.5 * (1.0 + math.cos(math.pi * done))  # SGDR (Loshchilov and Hutter 2016), equation 5, one period
