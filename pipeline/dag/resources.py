"""Circumstance: what a node runs on. Nothing here changes a result, so nothing here is identity."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

_AT_LEAST_ONE: tuple[str, Callable[[Any], bool]] = (">= 1", lambda value: value >= 1)
_AT_LEAST_ZERO: tuple[str, Callable[[Any], bool]] = (">= 0", lambda value: value >= 0)
_ABOVE_ZERO: tuple[str, Callable[[Any], bool]] = ("> 0", lambda value: value > 0)
RANGES = {
    "num_workers": _AT_LEAST_ONE,
    "min_workers": _AT_LEAST_ONE,
    "num_gpus": _AT_LEAST_ZERO,
    "gpu_memory_gib": _ABOVE_ZERO,
    "cpus_per_worker": _AT_LEAST_ONE,
    "zero_stage": ("0, 1, 2 or 3", lambda value: value in range(4)),
    "micro_batch_size": _AT_LEAST_ONE,
    "offload_folder": ("an absolute path", lambda path: PurePosixPath(path).is_absolute()),
    "checkpoint_every_steps": _AT_LEAST_ONE,
    "keep_checkpoints_every_steps": _AT_LEAST_ONE,
    "log_every_steps": _AT_LEAST_ONE,
    "norms_every_steps": _AT_LEAST_ONE,
    "profile_steps": (
        "[step], or [first, last] with 1 <= first <= last, as [10, 12]",
        lambda steps: len(steps) in (1, 2) and 1 <= steps[0] <= steps[-1],
    ),
    "max_failures": _AT_LEAST_ZERO,
    "hang_seconds": _ABOVE_ZERO,
}
"Of each field: what is allowed, in words and as a test."


class Recomputation(Enum):
    """Of a block's activations."""

    none = "none"
    selective = "selective"
    "What is cheap: norms, activation functions and products; outputs of matrices and attention are kept."
    full = "full"
    "All but the block's input."


@dataclass
class Resources:
    """What a node may use. `None` means: chosen automatically, or taken from `resources.default`."""

    num_workers: int | None = None
    "Ranks of a training node, or parallel tasks of a data node; >= 1. None: as many as pay on this cluster."
    min_workers: int | None = None
    """Fewest ranks that a training goes on with while nodes are away, to grow back to num_workers later; >= 1. None: it
    waits for all of them."""
    num_gpus: float | None = None
    "GPUs per rank; >= 0. None: one each where the cluster has GPUs."
    gpu_memory_gib: float | None = None
    "Memory of each GPU, in GiB, to choose settings that fit; > 0. None: asked of the GPUs, when they are there."
    cpus_per_worker: int | None = None
    "CPU cores, and threads, per rank; >= 1. None: the cores shared out evenly."
    zero_stage: int | None = None
    "DeepSpeed ZeRO stage, 0 to 3. None: 1 with several ranks, else 0; more where only that fits."
    micro_batch_size: int | None = None
    "Sequences in one forward pass of one rank; >= 1. None: the largest that divides, fits, and is known to be fast."
    offload_optimizer: bool | None = None
    "Keep optimizer states in host memory (ZeRO 1 to 3). None: only where nothing else fits."
    offload_parameters: bool | None = None
    "Keep parameters in host memory (ZeRO 3). None: only where nothing else fits."
    offload_folder: str | None = None
    """A folder on a fast disk of every machine, an absolute path: what is offloaded lies there and not in host memory
    (ZeRO 3). None: host memory."""
    activation_checkpointing: Recomputation | None = None
    "What the backward pass computes again instead of keeping it: none, selective, full. None: the least that fits."
    compile: bool | None = None
    "Fuse a model's operations with torch.compile (ZeRO 0 to 2). None: on GPUs, and on CPUs in runs of many minutes."
    checkpoint_every_steps: int | None = None
    "Steps between checkpoints, of which the newest two stay; >= 1. None: every 50."
    keep_checkpoints_every_steps: int | None = None
    "Steps between checkpoints that stay until the artifact is committed; >= 1. None: no such ones."
    log_every_steps: int | None = None
    "Steps between two records of the training metrics; >= 1. None: every step."
    norms_every_steps: int | None = None
    """Steps between two records of the norms of gradients and updates by layer; >= 1. None: every 100, or as rarely as
    the log."""
    profile_steps: list[int] | None = None
    """First and last step, from 1, of which a training node writes a trace, logs/trace.json.gz, for ui.perfetto.dev; or
    the only one. None: no trace."""
    max_failures: int | None = None
    """Lost workers after which a node fails; >= 0. None: 3. With min_workers: in a row, without a new checkpoint in
    between; lost machines do not count."""
    hang_seconds: float | None = None
    "Without a sign of life for so long a rank hangs, and is lost; ten times it at the start; > 0. None: 90."

    def out_of_range(self) -> list[tuple[str, str]]:
        """Each field that has a value which cannot be, and what is allowed."""
        found = ((name, getattr(self, name), allowed, holds) for name, (allowed, holds) in RANGES.items())
        return [
            (name, allowed) for name, value, allowed, holds in found if value is not None and not holds(value)
        ]

    def over(self, default: "Resources") -> "Resources":
        """These resources, with `default` wherever nothing is set here."""
        missing = {f.name: getattr(default, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **missing)
