"""How long a run is. Steps, tokens and epochs become steps here and nowhere else. Torch-free."""

import math
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from pipeline.dag.stage import Problem, refuse_first

DEFAULT_NUM_STEPS = 1000
DEFAULT_WARMUP_STEPS = 100
DEFAULT_DECAY_FRACTION = 0.2
"""A fall of a fifth of the run ends where a cosine over all of it does (Hägele et al. 2024)."""


Range = tuple[str, bool, str]
"A field, whether its value is in range, and what is allowed."


class Schedule(Enum):
    """How the learning rate falls after the warm-up."""

    cosine = "cosine"
    linear = "linear"
    constant = "constant"
    inverse_sqrt = "inverse_sqrt"
    "With the root of the step; it knows no end, so that a longer run begins as a shorter one."
    wsd = "wsd"
    "Not at all, and then over the last steps (warm-up, stable, decay)."


class DecayShape(Enum):
    """How wsd falls."""

    linear = "linear"
    one_minus_sqrt = "one_minus_sqrt"
    "1 - sqrt(the part of the decay that is done): fast at first, slow near the end."


@dataclass(frozen=True)
class Length:
    """A run's length and its parts, in optimizer updates."""

    num_steps: int
    warmup_steps: int
    decay_steps: int
    "The last steps, over which wsd falls; 0 for other schedules."
    num_tokens: int
    "Of all steps together."


@dataclass
class LengthSettings:
    """How long to train, in one of three units, and what becomes of the learning rate on the way."""

    num_steps: int | None = None
    "Optimizer updates; >= 1. None: 1000, where neither num_tokens nor num_epochs says how long."
    num_tokens: int | None = None
    "In place of num_steps: train on at least so many tokens, in whole steps; >= 1."
    num_epochs: float | None = None
    "In place of num_steps: draw at least so many times the sequences of all sources, in whole steps; > 0."
    global_batch_tokens: int = 32768
    "Tokens of one update over all ranks; a multiple of seq_len."
    seq_len: int = 512
    "Tokens of a sequence; at most the model's max_seq_len."
    schedule: Schedule = Schedule.cosine
    "How the learning rate falls after the warm-up: cosine, linear, constant, inverse_sqrt or wsd."
    warmup_steps: int | None = None
    "Steps over which the learning rate rises to its peak, in [0, num_steps]. None: 100, or what warmup_fraction says."
    warmup_fraction: float | None = None
    "In place of warmup_steps: a part of all steps, rounded; in [0, 1]."
    decay_steps: int | None = None
    "Steps at the end over which wsd falls; >= 0. None: what decay_fraction says."
    decay_fraction: float | None = None
    "In place of decay_steps: a part of all steps, rounded; in [0, 1]. None: 0.2."
    decay_shape: DecayShape = DecayShape.one_minus_sqrt
    "How wsd falls: linear or one_minus_sqrt."

    @property
    def sequences_per_step(self) -> int:
        """Sequences of the global batch."""
        return self.global_batch_tokens // self.seq_len

    def length(self, *, num_sequences: int | None = None) -> Length | None:
        """The length in steps; None where it is said in epochs and nobody knows yet of how many sequences.

        Args:
            num_sequences: of all sources together.
        """
        num_steps = self._num_steps(num_sequences)
        if num_steps is None:
            return None
        warmup = _part(self.warmup_steps, self.warmup_fraction, num_steps)
        decay = _part(self.decay_steps, self.decay_fraction, num_steps)
        if decay is None:
            decay = round(DEFAULT_DECAY_FRACTION * num_steps)
        return Length(
            num_steps=num_steps,
            warmup_steps=DEFAULT_WARMUP_STEPS if warmup is None else warmup,
            decay_steps=decay if self.schedule is Schedule.wsd else 0,
            num_tokens=num_steps * self.global_batch_tokens,
        )

    def length_over(self, num_sequences: int) -> Length:
        """The length in steps, now that the sequences are known.

        Raises:
            ConfigError: so few epochs do not hold their warm-up or decay; other units are refused before the start.
        """
        found = self.length(num_sequences=num_sequences)
        assert found is not None, "with the number of sequences every length is known"
        if self.num_epochs is not None:
            refuse_first(self._unfitting(found))
        return found

    def _num_steps(self, num_sequences: int | None) -> int | None:
        if self.num_epochs is not None:
            if num_sequences is None:
                return None
            epochs = Fraction(repr(self.num_epochs))  # as it is written: 0.1 is a tenth
            return math.ceil(epochs * num_sequences / self.sequences_per_step)
        if self.num_tokens is not None:
            return -(-self.num_tokens // self.global_batch_tokens)
        return DEFAULT_NUM_STEPS if self.num_steps is None else self.num_steps

    def _length_problems(self) -> list[Problem]:
        """What is wrong with the length, as far as it can be told without the data; values are in their ranges."""
        found = [
            Problem(
                second, f"{first} and {second} both say how long {what}", "one of them", f"set {first}=null"
            )
            for what, first, second in self._said_twice()
        ]
        if self.global_batch_tokens % self.seq_len:
            near = max(1, round(self.global_batch_tokens / self.seq_len)) * self.seq_len
            what = f"{self.global_batch_tokens} tokens are not a whole number of sequences of {self.seq_len}"
            found.append(Problem("global_batch_tokens", what, "a multiple of seq_len", f"for example {near}"))
        length = None if found else self.length()
        return self._unfitting(length) if length else found

    def _said_twice(self) -> list[tuple[str, str, str]]:
        pairs = [
            ("to train", "num_steps", "num_tokens"),
            ("to train", "num_steps", "num_epochs"),
            ("to train", "num_tokens", "num_epochs"),
            ("to warm up", "warmup_steps", "warmup_fraction"),
            ("to decay", "decay_steps", "decay_fraction"),
        ]
        return [pair for pair in pairs if all(getattr(self, name) is not None for name in pair[1:])]

    def _unfitting(self, length: Length) -> list[Problem]:
        """A warm-up, or a warm-up and a decay, that the run cannot hold."""
        whole, warmup, decay = length.num_steps, length.warmup_steps, length.decay_steps
        do = "shorten it, or train longer"
        if warmup > whole:
            what = f"a warm-up of {warmup} steps is longer than the {whole} steps of the run"
            return [Problem("warmup_steps", what, f"at most {whole}", do)]
        if warmup + decay > whole:
            what = (
                f"a decay over the last {decay} of {whole} steps begins within the {warmup} steps of warm-up"
            )
            field = "decay_fraction" if self.decay_steps is None else "decay_steps"
            return [Problem(field, what, f"at most {whole - warmup} steps", do)]
        return []

    def _length_ranges(self) -> list[Range]:
        return [
            ("num_steps", self.num_steps is None or self.num_steps >= 1, ">= 1"),
            ("num_tokens", self.num_tokens is None or self.num_tokens >= 1, ">= 1"),
            ("num_epochs", self.num_epochs is None or 0 < self.num_epochs < math.inf, "> 0"),
            ("global_batch_tokens", self.global_batch_tokens >= 1, ">= 1"),
            ("seq_len", self.seq_len >= 1, ">= 1"),
            ("warmup_steps", self.warmup_steps is None or self.warmup_steps >= 0, ">= 0"),
            ("warmup_fraction", self.warmup_fraction is None or 0 <= self.warmup_fraction <= 1, "in [0, 1]"),
            ("decay_steps", self.decay_steps is None or self.decay_steps >= 0, ">= 0"),
            ("decay_fraction", self.decay_fraction is None or 0 <= self.decay_fraction <= 1, "in [0, 1]"),
        ]


def _part(steps: int | None, fraction: float | None, num_steps: int) -> int | None:
    return steps if fraction is None else round(fraction * num_steps)
