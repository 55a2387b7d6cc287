"""The learning rate as a pure function of the step."""

import math

from pipeline.training.config import TrainingConfig
from pipeline.training.length import DecayShape, Length, Schedule


def learning_rate_at(step: int, config: TrainingConfig, length: Length) -> float:
    """The learning rate of update `step` (0 is the first): a linear rise, then the schedule's fall.

    The first step of a warm-up is not zero. The last step of the run has exactly the least learning rate where the
    schedule falls to it: cosine, linear and wsd.
    """
    if step < length.warmup_steps:
        return config.learning_rate * (step + 1) / length.warmup_steps
    least = config.min_learning_rate_fraction
    if config.schedule is Schedule.inverse_sqrt:
        return config.learning_rate * max(least, _inverse_sqrt(step, length))
    return config.learning_rate * (least + (1 - least) * _remaining(step, config, length))


def _remaining(step: int, config: TrainingConfig, length: Length) -> float:
    """What is left of the way from the peak to the least rate: 1 at the peak, 0 at the last step."""
    if config.schedule is Schedule.constant:
        return 1.0
    if config.schedule is Schedule.wsd:
        return _stable_then_decay(step, config, length)
    fall = max(1, length.num_steps - length.warmup_steps - 1)
    done = min(1.0, (step - length.warmup_steps) / fall)
    if config.schedule is Schedule.linear:
        return 1.0 - done
    return 0.5 * (1.0 + math.cos(math.pi * done))  # SGDR (Loshchilov and Hutter 2016), equation 5, one period


def _inverse_sqrt(step: int, length: Length) -> float:
    """Vaswani et al. 2017, equation 3, with its peak at 1: min(t / w, sqrt(w / t)) of the t-th step and w of warm-up.

    Without a warm-up the first step is the peak.
    """
    return math.sqrt(max(1, length.warmup_steps) / (step + 1))


def _stable_then_decay(step: int, config: TrainingConfig, length: Length) -> float:
    """Warm-up, stable, decay (Hu et al. 2024, MiniCPM, section 4.2), falling over the last steps alone.

    The fall is linear, or the 1-sqrt cooldown of Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond
    Fixed Training Durations".
    """
    decay = length.decay_steps
    done = min(1.0, max(0, step + 1 - (length.num_steps - decay)) / decay) if decay else 0.0
    return 1.0 - (done if config.decay_shape is DecayShape.linear else math.sqrt(done))
