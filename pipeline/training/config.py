"""What a training run learns and for how long: identity. Torch-free, so that a recipe composes without it."""

from dataclasses import dataclass
from enum import Enum

from pipeline.dag.resources import Resources
from pipeline.dag.stage import Problem
from pipeline.errors import ConfigError
from pipeline.training.length import LengthSettings
from pipeline.training.objective import ObjectiveSettings
from pipeline.training.spikes import SpikeSettings

FAST_MICRO_BATCH_TOKENS = 8192
"""Tokens in a rank's forward pass beyond which a larger one is no faster; measured, see `micro_batch_size_for`."""
WEIGHTS_STAGE = 3
"The ZeRO stage at which the weights themselves are partitioned."

MOST_LEARNING_RATE = 100.0
"Far above any that trains: beyond it is a slip of the exponent."


class Precision(Enum):
    """How numbers are held while training; the optimizer's weights and states are fp32 in each."""

    bf16 = "bf16"
    fp16 = "fp16"
    "With a dynamic loss scale; for GPUs without bf16."
    fp32 = "fp32"


class OptimizerKind(Enum):
    """What turns gradients into updates."""

    adamw = "adamw"
    "Adam with decoupled decay (Loshchilov and Hutter 2017, algorithm 2)."
    sgd = "sgd"
    "Gradient descent with momentum, Nesterov's or plain (Sutskever et al. 2013); the decay is added to the gradient."
    lion = "lion"
    "Signs of the momentum (Chen et al. 2023, algorithm 2); wants a smaller rate and a larger decay than adamw."
    muon = "muon"
    "Orthogonalized momentum for hidden matrices (Jordan 2024), adamw for embeddings, head, norms and biases."


class Packing(Enum):
    """How documents become sequences."""

    concatenate = "concatenate"
    "In one long row that is cut into full sequences; every token is a target."
    best_fit = "best_fit"
    "Whole, as many as fit; only one that is longer than a sequence is cut. The rest is padding."
    pad = "pad"
    "One to a sequence, or a piece of one that is longer; the rest is padding."


@dataclass
class TrainingConfig(LengthSettings, SpikeSettings, ObjectiveSettings):
    """The optimization: every field changes the weights that come out, and none says where they are computed."""

    learning_rate: float = 1e-3
    "Peak of the learning rate; > 0 and <= 100."
    min_learning_rate_fraction: float = 0.1
    "Learning rate of the last step as a fraction of the peak, in [0, 1]; inverse_sqrt stops falling there."
    optimizer: OptimizerKind = OptimizerKind.adamw
    "adamw, sgd, lion or muon (which takes adamw for all but hidden matrices)."
    weight_decay: float = 0.1
    "Decay of matrices, decoupled save with sgd; vectors (norms, biases) have none; >= 0."
    beta1: float = 0.9
    "Decay of the gradient's mean (adamw), or its weight in an update (lion); in [0, 1)."
    beta2: float = 0.95
    "Decay of the gradient's square (adamw) or of the momentum (lion), in [0, 1)."
    eps: float = 1e-8
    "Added to the root of the mean square (adamw); > 0."
    momentum: float = 0.95
    "Decay of the momentum of sgd and muon, in [0, 1)."
    nesterov: bool = True
    "Whether sgd and muon look one step of momentum ahead."
    ema_decay: float = 0.0
    "What an update keeps of a running mean of the weights, in [0, 1); the mean is what comes out. 0: no mean is kept."
    max_grad_norm: float = 1.0
    "Gradients above this norm are scaled down to it; 0: never."
    seed: int = 0
    "Of the initial weights and of the order of the data; >= 0."
    precision: Precision = Precision.bf16
    "bf16, fp16 (where there is no bf16), or fp32 (slower, for small models and comparisons)."
    shuffle_window: int = 0
    """Sequences that are shuffled among each other, window after window through each source; 0: all of a source. With a
    window a pretraining may begin on the first tokens while the others are still being made; >= 0."""
    mask_documents: bool = False
    "Whether attention stops at the ends of documents inside a packed sequence."
    eval_every_steps: int = 0
    "Steps between two losses on held-out text; 0: at the end only."
    eval_max_sequences: int = 256
    "Held-out sequences that each evaluation reads, always the same ones; >= 1."

    def problems(self) -> list[Problem]:
        """Everything wrong with these values on their own."""
        return self._out_of_range() or self._length_problems() or self._objective_problems()

    def _out_of_range(self) -> list[Problem]:
        ranges = [
            *self._length_ranges(),
            *self._spike_ranges(),
            (
                "learning_rate",
                0 < self.learning_rate <= MOST_LEARNING_RATE,
                f"> 0 and <= {MOST_LEARNING_RATE:g}",
            ),
            ("min_learning_rate_fraction", 0 <= self.min_learning_rate_fraction <= 1, "in [0, 1]"),
            ("weight_decay", self.weight_decay >= 0, ">= 0"),
            ("beta1", 0 <= self.beta1 < 1, "in [0, 1)"),
            ("beta2", 0 <= self.beta2 < 1, "in [0, 1)"),
            ("eps", self.eps > 0, "> 0"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1); 0 means that no mean is kept"),
            ("max_grad_norm", self.max_grad_norm >= 0, ">= 0; 0 means never clipped"),
            ("seed", self.seed >= 0, ">= 0"),
            ("shuffle_window", self.shuffle_window >= 0, ">= 0; 0 means all"),
            ("eval_every_steps", self.eval_every_steps >= 0, ">= 0; 0 means at the end only"),
            ("eval_max_sequences", self.eval_max_sequences >= 1, ">= 1"),
        ]
        return [
            Problem(name, f"{name} is {getattr(self, name)}", allowed, f"set {name} {allowed}")
            for name, holds, allowed in ranges
            if not holds
        ]


@dataclass(frozen=True)
class BatchSplit:
    """How the global batch is shared out: sequences = world_size * micro_batch_size * gradient_accumulation_steps."""

    world_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int


def split_batch(config: TrainingConfig, *, world_size: int, micro_batch_size: int | None) -> BatchSplit:
    """The one place where the micro batch and the accumulation steps are derived.

    Raises:
        ConfigError: the global batch cannot be shared out evenly; with the nearest values that can.
    """
    total = config.sequences_per_step
    if total % world_size:
        fitting = [n for n in range(1, total + 1) if total % n == 0]
        near = min(fitting, key=lambda n: (abs(n - world_size), -n))
        raise ConfigError(
            f"a global batch of {total} sequences cannot be shared evenly among {world_size} ranks",
            where="resources.num_workers",
            allowed=", ".join(map(str, fitting)),
            do=f"use {near} ranks, or make global_batch_tokens a multiple of {world_size * config.seq_len}",
        )
    per_rank = total // world_size
    micro = micro_batch_size or micro_batch_size_for(per_rank, seq_len=config.seq_len)
    if per_rank % micro:
        fitting = [n for n in range(1, per_rank + 1) if per_rank % n == 0]
        near = min(fitting, key=lambda n: (abs(n - micro), -n))
        raise ConfigError(
            f"the {per_rank} sequences of a rank and step cannot be split into micro batches of {micro}",
            where="resources.micro_batch_size",
            allowed=", ".join(map(str, fitting)),
            do=f"set micro_batch_size to {near}, or leave it out (null)",
        )
    return BatchSplit(world_size, micro, per_rank // micro)


def micro_batch_size_for(sequences_per_rank: int, *, seq_len: int) -> int:
    """The largest divisor whose forward pass stays within FAST_MICRO_BATCH_TOKENS; at least one sequence."""
    most = max(1, FAST_MICRO_BATCH_TOKENS // seq_len)
    return max(n for n in range(1, min(most, sequences_per_rank) + 1) if sequences_per_rank % n == 0)


def zero_stage_of(config: TrainingConfig, resources: Resources, *, world_size: int) -> int:
    """The ZeRO stage that runs: what was asked for, or 1 with several ranks and 0 with one, or 3 to offload to a disk.

    bf16 and fp16 at stage 0 run as stage 1: DeepSpeed has no unpartitioned optimizer that adds their gradients up in
    fp32. On one rank the two are the same thing.
    """
    least = WEIGHTS_STAGE if offloads_to_disk(resources) else int(world_size > 1)
    asked = resources.zero_stage if resources.zero_stage is not None else least
    return asked if config.precision is Precision.fp32 else max(asked, 1)


def offloads_to_disk(resources: Resources) -> bool:
    """Whether that was asked for, or chosen."""
    offloads = resources.offload_optimizer or resources.offload_parameters
    return resources.offload_folder is not None and bool(offloads)


def folder_problems(resources: Resources) -> list[Problem]:
    """A folder for what is offloaded where nothing can be offloaded to it."""
    if resources.offload_folder is None:
        return []
    if resources.offload_optimizer is False and not resources.offload_parameters:
        what = "there is a folder for what is offloaded, and offload_optimizer is false: nothing is"
        do = "set offload_optimizer to true or null, or leave offload_folder out (null)"
        return [Problem("offload_folder", what, "null where nothing is offloaded", do)]
    if resources.zero_stage is not None and resources.zero_stage < WEIGHTS_STAGE:
        what = f"ZeRO {resources.zero_stage} offloads to memory alone, not to the folder {resources.offload_folder}"
        do = "set zero_stage to 3 or null, or leave offload_folder out (null)"
        return [Problem("zero_stage", what, "3 or null with an offload_folder", do)]
    return []
