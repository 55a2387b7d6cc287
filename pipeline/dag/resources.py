"""Circumstance: what a node runs on. Nothing here changes a result, so nothing here is identity."""

from dataclasses import dataclass, fields, replace


@dataclass
class Resources:
    """What a node may use. `None` means: chosen automatically, or taken from `resources.default`."""

    num_workers: int | None = None
    "Ranks of a training node, or parallel tasks of a data node; >= 1. None: as many as pay on this cluster."
    num_gpus: float | None = None
    "GPUs per rank; >= 0. None: one each where the cluster has GPUs."
    cpus_per_worker: int | None = None
    "CPU cores, and threads, per rank; >= 1. None: the cores shared out evenly."
    zero_stage: int | None = None
    "DeepSpeed ZeRO stage, 0 to 3. None: 1 with several ranks, else 0."
    micro_batch_size: int | None = None
    "Sequences in one forward pass of one rank; >= 1. None: the largest that divides and is known to be fast."
    offload_optimizer: bool | None = None
    "Keep optimizer states in host memory (ZeRO 1 to 3)."
    offload_parameters: bool | None = None
    "Keep parameters in host memory (ZeRO 3)."
    activation_checkpointing: bool | None = None
    "Recompute activations in the backward pass instead of keeping them."
    checkpoint_every_steps: int | None = None
    "Steps between checkpoints; >= 1. None: every 50."
    log_every_steps: int | None = None
    "Steps between two records of the training metrics; >= 1. None: every step."
    max_failures: int | None = None
    "Lost workers after which a node fails; >= 0. None: 3."
    hang_seconds: float | None = None
    "Without a sign of life for so long a rank hangs, and is lost; ten times it at the start; > 0. None: 90."

    def over(self, default: "Resources") -> "Resources":
        """These resources, with `default` wherever nothing is set here."""
        missing = {f.name: getattr(default, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **missing)
