"""A rank's own part of the training state, as views by parameter name, whatever the ZeRO stage.

DeepSpeed keeps fp32 weights and optimizer states in flat tensors, cut into one partition per rank. Here each is seen as
named pieces of parameters, so that a checkpoint can be read into any other cut: fewer ranks, another stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.training.engine import WEIGHTS_STAGE, Engine
from pipeline.training.optimizer import STATE_KEYS

WEIGHT = "weight"
KINDS = (WEIGHT, *STATE_KEYS)


@dataclass(frozen=True)
class Fragment:
    """The elements [start, start + numel) of a flattened parameter, which this rank keeps."""

    name: str
    "The parameter's name in the model."
    start: int
    "First element."
    tensors: dict[str, Tensor]
    "Weight and optimizer states, by KINDS: fp32 [numel] views of the live state."

    @property
    def numel(self) -> int:
        return self.tensors[WEIGHT].numel()


def fragments_of(engine: Engine) -> list[Fragment]:
    """This rank's part of weights and optimizer states; together the ranks hold every element once.

    States that DeepSpeed has not made yet are made here, as zeros.
    """
    states = engine.optimizer.state
    found = []
    for name, parameter in named_parameters(engine):
        located = _locate(engine, parameter)
        if located is None:
            continue
        flat, offset, start, numel = located
        state = _state_of(states, flat)
        tensors = {
            kind: (flat if kind == WEIGHT else state[kind]).detach().view(-1).narrow(0, offset, numel)
            for kind in KINDS
        }
        found.append(Fragment(name, start, tensors))
    return found


def named_parameters(engine: Engine) -> list[tuple[str, torch.nn.Parameter]]:
    """The model's parameters by its own names, without the objective's around them; tied ones once."""
    model: torch.nn.Module = engine.objective.model  # type: ignore[assignment]
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def set_weights(engine: Engine, weights: Mapping[str, Tensor]) -> None:
    """Let training begin from these fp32 weights, exactly: bf16 engines would begin from rounded ones."""
    for fragment in fragments_of(engine):
        whole = weights[fragment.name].reshape(-1)
        fragment.tensors[WEIGHT].copy_(whole.narrow(0, fragment.start, fragment.numel))
    renew(engine)


def set_step(engine: Engine, step: int) -> None:
    """Tell the optimizer how many updates it has made: the bias correction depends on it."""
    for state in engine.optimizer.state.values():
        state["step"].fill_(step)


def renew(engine: Engine) -> None:
    """Bring the weights that the model computes with up to date with the fp32 ones that were set."""
    wrapped = engine.deepspeed.optimizer
    if engine.stage == WEIGHTS_STAGE:
        wrapped._partition_all_parameters()  # noqa: SLF001 - DeepSpeed's own order of an update's end
        for group in range(len(wrapped.fp16_groups)):
            wrapped._reassign_or_swap_out_partitioned_parameters(group)  # noqa: SLF001
        if wrapped.persistent_parameters:
            wrapped.persistent_parameters[0].all_gather(wrapped.persistent_parameters)
    elif engine.stage > 0:
        wrapped.update_lp_params()


def _locate(engine: Engine, parameter: Any) -> tuple[Tensor, int, int, int] | None:
    """(flat fp32 tensor, offset in it, first element of the parameter, elements) on this rank; None: nothing here."""
    if engine.stage == 0:
        return _replicated(parameter)
    wrapped = engine.deepspeed.optimizer
    if engine.stage == WEIGHTS_STAGE:
        group, offset, size = wrapped.grad_position[wrapped.get_param_id(parameter)]
        start = dist.get_rank() * size
        numel = min(size, parameter.ds_numel - start)  # the last partitions are padded
        return (wrapped.fp32_partitioned_groups_flat[group], offset, start, numel) if numel > 0 else None
    mapping = parameter._hp_mapping  # noqa: SLF001 - DeepSpeed's only map from a parameter to its partition
    if mapping is None:
        return None
    groups = getattr(wrapped, "fp32_groups_flat_partition", None) or wrapped.single_partition_of_fp32_groups
    here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
    return groups[mapping.param_group_index], here.start, there.start, here.numel


def _replicated(parameter: torch.nn.Parameter) -> tuple[Tensor, int, int, int] | None:
    """Every rank has all of it; each answers for an even share, so that all of them write."""
    share = -(-parameter.numel() // dist.get_world_size())
    start = dist.get_rank() * share
    numel = min(share, parameter.numel() - start)
    return (parameter, start, start, numel) if numel > 0 else None


def _state_of(states: Any, flat: Tensor) -> dict[str, Tensor]:
    state: dict[str, Tensor] = states[flat]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device)
        state |= {key: torch.zeros_like(flat, requires_grad=False) for key in STATE_KEYS}
        states[flat] = state
    return state
