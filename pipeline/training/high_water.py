"""The most memory that a rank's training has held, as the device or the operating system counts it."""

import resource
import sys
from pathlib import Path

import torch

GIB = 2**30
PROCESS = Path("/proc/self")
RESET_PEAK = "5"
"""Written to clear_refs it makes the peak what is held now; proc_pid_clear_refs(5)."""


class HighWater:
    """On a GPU all that torch has allocated there; on a CPU what the process holds beyond what it held before.

    Made before the model is. Of CPU ranks it is the resident memory: what is read of the mapped shards is in it, what
    was asked for and never touched is not. Where the peak cannot be reset, one from before counts.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = 0
        else:
            _reset_peak()
            self._before = _status("VmRSS") or _peak()

    def take(self, num_steps: int) -> dict[str, float]:
        """The highest yet, in GiB; without a step nothing new."""
        if num_steps == 0:
            return {}
        highest = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else _peak()
        return {"train/memory_gib": max(0, highest - self._before) / GIB}


def _reset_peak() -> None:
    try:
        (PROCESS / "clear_refs").write_text(RESET_PEAK)
    except OSError:  # no Linux, or one that does not allow it
        return


def _peak() -> int:
    """Bytes of the process at its peak."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int | None:
    """Bytes, as the kernel's status of this process says; None where there is none."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
