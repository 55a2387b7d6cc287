"""How fast training goes: tokens a second, the fraction of what the machine's matmuls can do, the time left."""

import time
from dataclasses import dataclass, field
from functools import cache

import torch

from pipeline.training.config import Precision, TrainingConfig

ROOF_SIZE = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices of the roof, by device: large enough to be bound by arithmetic."""
ROOF_REPEATS = 6
DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16, Precision.fp32: torch.float32}


@cache  # of the process: the machine does not change, and it takes a fifth of a second
def measure_matmul_roof(device: torch.device, precision: Precision) -> float:
    """Floating-point operations a second of this rank's best plain matmul: what MFU is a fraction of."""
    size = ROOF_SIZE[device.type]
    left, right = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))  # [N, N]
    times = []
    for _ in range(ROOF_REPEATS):
        synchronize(device)
        started_at = time.perf_counter()
        left @ right
        synchronize(device)
        times.append(time.perf_counter() - started_at)
    return float(2 * size**3 / min(times))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Throughput:
    """Speed since the last look, of training steps alone: evaluations and checkpoints are left out."""

    config: TrainingConfig
    num_steps: int
    "Of the whole run."
    flops_per_token: int
    "Operations of forward and backward for a token."
    roof: float
    "Operations a second that all ranks could do."
    _seconds: float = field(default=0.0, init=False)
    _steps: int = field(default=0, init=False)
    _all_seconds: float = field(default=0.0, init=False)
    _all_steps: int = field(default=0, init=False)

    def add(self, seconds: float) -> None:
        """A step took that long."""
        self._seconds, self._steps = self._seconds + seconds, self._steps + 1
        if self._all_steps or self._steps > 1:  # the first step also allocates and warms up
            self._all_seconds, self._all_steps = self._all_seconds + seconds, self._all_steps + 1

    def take(self) -> dict[str, float]:
        """The metrics of the steps since the last call."""
        tokens = self._steps * self.config.sequences_per_step * self.config.seq_len
        rate = tokens / self._seconds
        self._seconds, self._steps = 0.0, 0
        return {
            "train/tokens_per_second": rate,
            "train/mfu": rate * self.flops_per_token / self.roof,
        }

    def seconds_left(self, step: int) -> float | None:
        """Until the last step, at the mean pace so far; None before there is one."""
        if not self._all_steps:
            return None
        return (self.num_steps - step) * self._all_seconds / self._all_steps
