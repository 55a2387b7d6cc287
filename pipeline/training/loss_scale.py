"""Dynamic loss scaling for fp16 (Micikevicius et al. 2017, "Mixed Precision Training", section 3.2).

Gradients of fp16 weights are computed of the loss times a scale, so that small ones do not vanish, and divided by it in
fp32. Where one of them is too large for fp16, the update is skipped on all ranks and the scale halved; after so many
updates without, it is doubled. A skipped step has had its batch and its learning rate: the next step goes on with the
next of both, so the order of the data and the schedule stay functions of the step alone.
"""

from dataclasses import dataclass
from typing import Any

LEAST_SCALE = 1.0
"""Gradients that overflow at this scale are no matter of scaling: training stops there."""
INITIAL_POWER = 16
GROWTH_STEPS = 1000
STATES = ("cur_scale", "cur_iter", "last_overflow_iter")


@dataclass(frozen=True)
class Scaling:
    """What a step did to the scale."""

    loss_scale: float
    "Of the next step."
    num_skipped: int
    "Steps of the run so far whose update was skipped."
    is_skipped: bool
    "Whether this step's was."


class LossScale:
    """DeepSpeed's scaler, with what a checkpoint must hold of it."""

    def __init__(self, scaler: Any) -> None:
        self._scaler = scaler
        scaler.raise_error_at_min_scale = False  # the loop stops there, and names the documents
        self.num_skipped = 0

    def after(self, *, applied: bool, scale_before: float) -> Scaling | None:
        """What became of a step; None where its gradients overflowed although the scale was the least."""
        if not applied and scale_before <= LEAST_SCALE:
            return None
        self.num_skipped += not applied
        return Scaling(self.value, self.num_skipped, is_skipped=not applied)

    @property
    def value(self) -> float:
        return float(self._scaler.cur_scale)

    def state(self) -> dict[str, float]:
        """For `restore`, as JSON can hold it."""
        return {name: getattr(self._scaler, name) for name in STATES} | {"num_skipped": self.num_skipped}

    def restore(self, state: dict[str, float]) -> None:
        """Go on as the scaler whose state this is."""
        for name in STATES:
            setattr(self._scaler, name, state[name])
        self.num_skipped = int(state["num_skipped"])


def deepspeed_section() -> dict[str, Any]:
    """DeepSpeed's settings of fp16: each overflow halves the scale."""
    return {
        "enabled": True,
        "loss_scale": 0,  # dynamic
        "initial_scale_power": INITIAL_POWER,
        "loss_scale_window": GROWTH_STEPS,
        "hysteresis": 1,
        "min_loss_scale": LEAST_SCALE,
    }
