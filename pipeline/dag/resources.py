"""Circumstance: what a node runs on. Nothing here changes a result, so nothing here is identity."""

from dataclasses import dataclass, fields, replace


@dataclass
class Resources:
    """What a node may use. `None` means: chosen automatically, or taken from `resources.default`."""

    num_workers: int | None = None
    "Ranks of a training node, or parallel tasks of a data node; >= 1. None: as many as pay on this cluster."
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
    activation_checkpointing: bool | None = None
    "Recompute activations in the backward pass instead of keeping them. None: where they do not fit."
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
    "Lost workers after which a node fails; >= 0. None: 3."
    hang_seconds: float | None = None
    "Without a sign of life for so long a rank hangs, and is lost; ten times it at the start; > 0. None: 90."

    def over(self, default: "Resources") -> "Resources":
        """These resources, with `default` wherever nothing is set here."""
        missing = {f.name: getattr(default, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **missing)
