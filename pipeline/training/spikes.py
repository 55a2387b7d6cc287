"""Spikes of the loss: how one is told, and what becomes of its update. Torch-free.

A loss is a spike where it is above the median of the last losses by so many of their robust standard deviations:
1.4826 times the median absolute deviation (Hampel 1974, "The Influence Curve and Its Role in Robust Estimation"), since
mean and standard deviation are moved by a spike itself. The rule is a pure function of the global batches' losses so
far. They travel in the checkpoints, so that a resumed run decides as the first one did; and they are the same on all
ranks.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

NORMAL_DEVIATIONS = 1.4826
"""Standard deviations in a median absolute deviation of normal numbers."""
LEAST_DEVIATION_FRACTION = 1e-3
"""Of the median: what a deviation counts for at the least, lest a loss that hardly moves be all spikes."""

Range = tuple[str, bool, str]


class SpikePolicy(Enum):
    """What becomes of the update of a global batch whose loss is a spike."""

    none = "none"
    "It is made; nobody looks."
    skip = "skip"
    "It is left out; the step counts, its batch and its learning rate are used up."
    cut_rate = "cut_rate"
    "It is made at the learning rate over spike_rate_divisor."
    rewind = "rewind"
    """The state of the last checkpoint comes back, and the batches from there to the spike's are left out; the steps
    count (Chowdhery et al. 2022, PaLM, section 5.1)."""


@dataclass
class SpikeSettings:
    """When a loss is a spike, and what then."""

    spike_policy: SpikePolicy = SpikePolicy.none
    "none, skip, cut_rate or rewind."
    spike_window: int = 128
    "Losses before a step by which its loss is judged; without so many none is a spike; >= 2."
    spike_threshold: float = 6.0
    "Robust standard deviations above their median from which a loss is a spike; > 0."
    spike_rate_divisor: float = 10.0
    "Of the learning rate of a spike's update, with cut_rate; > 1."
    spike_rewind_steps: int = 50
    "Steps between checkpoints with rewind, in place of resources.checkpoint_every_steps: where it goes back to; >= 1."

    def _spike_ranges(self) -> list[Range]:
        return [
            ("spike_window", self.spike_window >= 2, ">= 2"),  # noqa: PLR2004
            ("spike_threshold", self.spike_threshold > 0, "> 0"),
            ("spike_rate_divisor", self.spike_rate_divisor > 1, "> 1"),
            ("spike_rewind_steps", self.spike_rewind_steps >= 1, ">= 1"),
        ]


@dataclass(frozen=True)
class Spike:
    """A loss that is a spike."""

    policy: SpikePolicy
    loss: float
    limit: float
    "The most that was no spike."
    number: int
    "Of the run's spikes, from 1."


@dataclass
class SpikeGuard:
    """Judges the losses of a run, one after the other."""

    settings: SpikeSettings
    losses: list[float] = field(default_factory=list)
    "The newest, at most spike_window."
    num_spikes: int = 0
    num_left_out: int = 0
    "Steps of the run so far whose update is not in the weights."

    def judge(self, loss: float) -> Spike | None:
        """Whether the next loss is a spike; called once for each step, in their order, before its update."""
        if self.settings.spike_policy is SpikePolicy.none:
            return None
        before = self.losses
        self.losses = [*before, loss][-self.settings.spike_window :]
        limit = self._limit(before) if len(before) == self.settings.spike_window else loss
        if loss <= limit:
            return None
        self.num_spikes += 1
        return Spike(self.settings.spike_policy, loss, limit, self.num_spikes)

    def state(self) -> dict[str, Any]:
        """For `restore`, as JSON can hold it."""
        return {
            "losses": list(self.losses),
            "num_spikes": self.num_spikes,
            "num_left_out": self.num_left_out,
        }

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on as the guard whose state this is; None: of a checkpoint from before there were any."""
        if state is not None:
            self.losses = [float(loss) for loss in state["losses"]]
            self.num_spikes, self.num_left_out = int(state["num_spikes"]), int(state["num_left_out"])

    def _limit(self, losses: list[float]) -> float:
        median = statistics.median(losses)
        deviation = NORMAL_DEVIATIONS * statistics.median(abs(loss - median) for loss in losses)
        return median + self.settings.spike_threshold * max(deviation, LEAST_DEVIATION_FRACTION * abs(median))
