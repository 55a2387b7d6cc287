"""What fits: ZeRO stage, recomputation, offload and micro batch, chosen before a rank is started. Torch-free.

Every setting that is left open is tried, the cheapest first, until what a rank holds fits into its memory. The costs
are rough factors of time; they only have to put the settings in order.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from model.config import ModelConfig
from pipeline.dag.resources import Recomputation, Resources
from pipeline.errors import ConfigError
from pipeline.training.config import (
    WEIGHTS_STAGE,
    BatchSplit,
    TrainingConfig,
    offloads_to_disk,
    split_batch,
    zero_stage_of,
)
from pipeline.training.memory import GIB, Memory, memory_of_rank

USABLE = 0.92
"Of a device's memory: the rest goes to its context, to NCCL and to what the allocator cannot fill."
STAGE_COSTS = {0: 1.0, 1: 1.0, 2: 1.03, 3: 1.3}
"Stage 3 sends 1.5 times as much (Rajbhandari et al. 2019, section 7.2)."
RECOMPUTE_COSTS = {Recomputation.none: 1.0, Recomputation.selective: 1.15, Recomputation.full: 1.33}
"A second forward pass (Chen et al. 2016); of `selective`, measured."
RECOMPUTE_WORDS = {
    Recomputation.none: [],
    Recomputation.selective: ["selectively recomputed activations"],
    Recomputation.full: ["recomputed activations"],
}
OFFLOAD_OPTIMIZER_COST, OFFLOAD_PARAMETERS_COST = 1.6, 2.5
DISK_COST = 3.0
"To have what is offloaded read and written in each step, where memory has no room for it."
HALF_MICRO_BATCH_COST = 1.08
MOST_RANKS = 1 << 14


@dataclass(frozen=True)
class Fit:
    """Resources in which nothing that memory depends on is open, and what a rank then holds."""

    resources: Resources
    memory: Memory
    reason: str
    "Why these: what the cheaper settings would have held. Empty where nothing was changed."
    room: float
    "Bytes that a rank may hold."
    measured: float | None = None
    "Bytes that it has held on its device in just these settings, where that was measured."

    def words(self) -> str:
        """The settings, what they hold, and why."""
        held = f"{_gib(self.measured)}, as measured," if self.measured else _gib(self.memory.on_device)
        taken = f"{_words(self.resources)}: {held} of {_gib(self.room)}"
        return f"{taken}; {self.reason}" if self.reason else taken


def fitted(
    model: ModelConfig,
    training: TrainingConfig,
    resources: Resources,
    *,
    device_bytes: float,
    device: str = "GPU",
    measured: Callable[[Resources], float | None] = lambda _: None,
) -> Fit:
    """The cheapest settings that fit `resources.num_workers` ranks of `device_bytes` each; what is set, stays.

    Args:
        model: with a known vocab_size.
        training: what a step takes.
        resources: `num_workers` is set; None in other fields: to be chosen.
        device_bytes: memory that a rank has to itself.
        device: what to call it in words.
        measured: bytes on a rank's device that were measured in given settings; they count more than what is predicted.

    Raises:
        ConfigError: nothing fits; with what would.
    """
    largest = _preferred_split(training, resources).micro_batch_size
    tried = sorted(_candidates(training, resources), key=lambda each: _cost(each, largest))
    room = USABLE * device_bytes
    first: Memory | None = None
    for each in tried:
        memory, found = memory_with(model, training, each), measured(each)
        if (found or memory.on_device) <= room:
            reason = f"{_words(tried[0])} would take {_gib(first.on_device)}" if first else ""
            return Fit(each, memory, reason, room, found)
        first = first or memory
    raise _does_not_fit(model, training, resources, room, device)


def memory_with(model: ModelConfig, training: TrainingConfig, resources: Resources) -> Memory:
    """What one rank holds; `num_workers` is set, and open settings are off."""
    ranks = resources.num_workers or 1
    memory = memory_of_rank(
        model,
        training,
        split_batch(training, world_size=ranks, micro_batch_size=resources.micro_batch_size),
        zero_stage=zero_stage_of(training, resources, world_size=ranks),
        offload_optimizer=bool(resources.offload_optimizer),
        offload_parameters=bool(resources.offload_parameters),
        recomputation=resources.activation_checkpointing or Recomputation.none,
        on_gpu=bool(resources.num_gpus),
    )
    return memory.with_folder() if offloads_to_disk(resources) else memory


def _candidates(training: TrainingConfig, resources: Resources) -> Iterator[Resources]:
    """Every way to fill in what is open."""
    preferred = _preferred_split(training, resources)
    per_rank = preferred.micro_batch_size * preferred.gradient_accumulation_steps
    micros = [n for n in range(1, preferred.micro_batch_size + 1) if per_rank % n == 0]
    if resources.micro_batch_size is not None:
        micros = [resources.micro_batch_size]
    least = zero_stage_of(training, resources, world_size=preferred.world_size)
    stages = [least] if resources.zero_stage is not None else range(least, WEIGHTS_STAGE + 1)
    asked = resources.activation_checkpointing
    recompute = list(Recomputation) if asked is None else [asked]
    optimizer, parameters = _open(resources.offload_optimizer), _open(resources.offload_parameters)
    least_offloaded = WEIGHTS_STAGE if resources.offload_folder else 1
    for stage, micro, again, apart, away in product(stages, micros, recompute, optimizer, parameters):
        if (away and not (apart and stage == WEIGHTS_STAGE)) and resources.offload_parameters is None:
            continue
        if apart and stage < least_offloaded and resources.offload_optimizer is None:
            continue
        yield replace(
            resources,
            zero_stage=stage,
            micro_batch_size=micro,
            activation_checkpointing=again,
            offload_optimizer=apart,
            offload_parameters=away,
        )


def _open(setting: bool | None) -> list[bool]:  # noqa: FBT001 - a setting, not a switch
    return [False, True] if setting is None else [setting]


def _preferred_split(training: TrainingConfig, resources: Resources) -> BatchSplit:
    """With the micro batch that is asked for, or else the one that is known to be fast."""
    ranks = resources.num_workers or 1
    return split_batch(training, world_size=ranks, micro_batch_size=resources.micro_batch_size)


def _cost(each: Resources, largest_micro_batch: int) -> float:
    """Time, relative to the cheapest."""
    assert each.micro_batch_size is not None
    assert each.zero_stage is not None
    halvings = math.log2(largest_micro_batch / each.micro_batch_size)
    cost = STAGE_COSTS[each.zero_stage] * HALF_MICRO_BATCH_COST**halvings
    cost *= RECOMPUTE_COSTS[each.activation_checkpointing or Recomputation.none]
    cost *= OFFLOAD_OPTIMIZER_COST if each.offload_optimizer else 1
    cost *= OFFLOAD_PARAMETERS_COST if each.offload_parameters else 1
    cost *= DISK_COST if offloads_to_disk(each) else 1
    return float(cost)


def _does_not_fit(
    model: ModelConfig, training: TrainingConfig, resources: Resources, room: float, device: str
) -> ConfigError:
    least, memory = _least(model, training, resources)
    ranks = resources.num_workers or 1
    return ConfigError(
        f"the model does not fit: {_words(least)} take {_gib(memory.on_device)} of each of {ranks} ranks, "
        f"and of a {device} {_gib(room)} can be used",
        where="resources",
        allowed=f"settings in which a rank holds at most {_gib(room)}",
        do=_what_would_fit(model, training, resources, room),
    )


def _what_would_fit(model: ModelConfig, training: TrainingConfig, resources: Resources, room: float) -> str:
    """The nearest setting that fits: more ranks, else shorter sequences, else everything open."""
    total = training.sequences_per_step
    ranks = resources.num_workers or 1
    more = (n for n in range(ranks + 1, min(total, MOST_RANKS) + 1) if total % n == 0)
    for number in more:
        each = replace(resources, num_workers=number, micro_batch_size=None)
        if _least(model, training, each)[1].on_device <= room:
            return f"use {number} ranks (num_workers: {number})"
    free = Resources(num_workers=ranks, num_gpus=resources.num_gpus, offload_folder=resources.offload_folder)
    if _least(model, training, free)[1].on_device <= room:
        return "leave zero_stage, micro_batch_size, activation_checkpointing and the offloads open (null)"
    shorter = replace(training, seq_len=training.seq_len // 2) if training.seq_len % 2 == 0 else training
    if shorter is not training and _least(model, shorter, free)[1].on_device <= room:
        return f"set seq_len to {shorter.seq_len}, and leave the resources open (null)"
    return "take a smaller model, or devices with more memory"


def _least(model: ModelConfig, training: TrainingConfig, resources: Resources) -> tuple[Resources, Memory]:
    """The settings that hold the least on the device."""
    found = ((each, memory_with(model, training, each)) for each in _candidates(training, resources))
    return min(found, key=lambda each: each[1].on_device)


def _words(each: Resources) -> str:
    words = [f"ZeRO {each.zero_stage}", f"a micro batch of {each.micro_batch_size}"]
    words += RECOMPUTE_WORDS[each.activation_checkpointing or Recomputation.none]
    words += ["offloaded optimizer"] if each.offload_optimizer else []
    words += ["offloaded parameters"] if each.offload_parameters else []
    words += [f"what is offloaded in {each.offload_folder}"] if offloads_to_disk(each) else []
    return ", ".join(words)


def _gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB"
