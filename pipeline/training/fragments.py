"""A rank's own part of the training state, as views by parameter name, whatever the ZeRO stage.

DeepSpeed keeps fp32 weights and optimizer states in flat tensors, cut into one partition per rank. Here each is seen as
named pieces of parameters, so that a checkpoint can be read into any other cut: fewer ranks, another stage.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.training.config import WEIGHTS_STAGE
from pipeline.training.engine import Engine
from pipeline.training.muon import Layout, Muon, Piece
from pipeline.training.optimizer import ADAM_STATES, STEP, hidden_matrices, state_keys
from pipeline.training.ranks import Ranks

WEIGHT = "weight"


@dataclass(frozen=True)
class Place:
    """Where a rank keeps its part of a parameter."""

    flat: Tensor
    "The fp32 tensor that the optimizer updates."
    group: int
    "Which of the rank's flat tensors it is; the same on all ranks."
    offset: int
    "First element in `flat`."
    start: int
    "First element of the flattened parameter."
    numel: int


@dataclass(frozen=True)
class Fragment:
    """The elements [start, start + numel) of a flattened parameter, which this rank keeps."""

    name: str
    "The parameter's name in the model."
    start: int
    "First element."
    tensors: dict[str, Tensor]
    "The weight, and the optimizer's states by their names: fp32 [numel] views of the live state."

    @property
    def numel(self) -> int:
        return self.tensors[WEIGHT].numel()


def fragments_of(engine: Engine) -> list[Fragment]:
    """All weights and optimizer states that this rank holds: at ZeRO 0 all there are, else its own part.

    States that DeepSpeed has not made yet are made here, as zeros.
    """
    hidden = hidden_matrices(model_of(engine))
    found = []
    for name, place in places_of(engine):
        keys = state_keys(engine.config, is_hidden_matrix=name in hidden)
        state = _state_of(engine, place.flat, keys)
        wholes = {WEIGHT: place.flat} | {key: state[key] for key in keys}
        tensors = {
            kind: whole.detach().view(-1).narrow(0, place.offset, place.numel)
            for kind, whole in wholes.items()
        }
        found.append(Fragment(name, place.start, tensors))
    return found


def places_of(engine: Engine) -> Iterator[tuple[str, Place]]:
    """By parameter, where this rank keeps its part; none for one that it has no part of."""
    for name, parameter in named_parameters(engine):
        place = _locate(engine, parameter)
        if place is not None:
            yield name, place


def shares_of(engine: Engine) -> list[Fragment]:
    """What this rank writes of what it holds: together the ranks write every element once.

    At ZeRO 0 every rank has all of it; each answers for an even share, so that all of them write.
    """
    held = fragments_of(engine)
    if engine.stage > 0:
        return held
    shares = []
    for each in held:
        share = -(-each.numel // dist.get_world_size())
        start = dist.get_rank() * share
        numel = min(share, each.numel - start)
        if numel > 0:
            parts = {kind: part.narrow(0, start, numel) for kind, part in each.tensors.items()}
            shares.append(Fragment(each.name, start, parts))
    return shares


def lay_out_matrices(engine: Engine, ranks: Ranks) -> None:
    """Tell Muon where its matrices lie in the ranks' flat tensors; called by all ranks together before a step."""
    optimizer = engine.optimizer
    if not isinstance(optimizer, Muon) or engine.stage == 0:
        return
    hidden = hidden_matrices(model_of(engine))
    matrices = [(name, each) for name, each in named_parameters(engine) if name in hidden]
    mine: dict[int, list[Piece]] = {}
    for name, parameter in matrices:
        place = _locate(engine, parameter)
        if place is not None:
            piece = Piece(name, start=place.start, offset=place.offset, numel=place.numel)
            mine.setdefault(place.group, []).append(piece)
    shapes = {name: whole_shape(parameter) for name, parameter in matrices}
    everyone = ranks.gather(mine)
    for group, flat in enumerate(_flats(engine)):
        pieces = [each.get(group, []) for each in everyone]
        if any(pieces):
            optimizer.layouts[flat] = Layout(shapes, pieces, rank=ranks.rank, device=engine.device)


def whole_shape(parameter: Any) -> torch.Size:
    """The whole parameter's shape, also where ZeRO-3 has taken it apart."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def model_of(engine: Engine) -> torch.nn.Module:
    """The model inside the objective."""
    model: torch.nn.Module = engine.objective.model  # type: ignore[assignment]
    return model


def named_parameters(engine: Engine) -> list[tuple[str, torch.nn.Parameter]]:
    """The model's parameters by its own names, without the objective's around them; tied ones once."""
    return [(name, each) for name, each in model_of(engine).named_parameters() if each.requires_grad]


def set_weights(engine: Engine, weights: Mapping[str, Tensor]) -> None:
    """Let training begin from these fp32 weights, exactly: bf16 engines would begin from rounded ones."""
    for fragment in fragments_of(engine):
        whole = weights[fragment.name].reshape(-1)
        fragment.tensors[WEIGHT].copy_(whole.narrow(0, fragment.start, fragment.numel))
    renew(engine)


def set_updates(engine: Engine, num_updates: int) -> None:
    """Tell how many updates were made: AdamW's bias correction and the mean of the weights depend on it."""
    engine.num_updates = num_updates
    for state in engine.optimizer.state.values():
        if STEP in state:
            state[STEP].fill_(num_updates)


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


def _locate(engine: Engine, parameter: Any) -> Place | None:
    """Where this rank keeps its part of a parameter; None: it has none."""
    if engine.stage == 0:
        return Place(parameter, 0, 0, 0, parameter.numel())
    wrapped = engine.deepspeed.optimizer
    if engine.stage == WEIGHTS_STAGE:
        group, offset, size = wrapped.grad_position[wrapped.get_param_id(parameter)]
        start = dist.get_rank() * size
        numel = min(size, parameter.ds_numel - start)  # the last partitions are padded
        return Place(_flats(engine)[group], group, offset, start, numel) if numel > 0 else None
    mapping = parameter._hp_mapping  # noqa: SLF001 - DeepSpeed's only map from a parameter to its partition
    if mapping is None:
        return None
    group, here, there = mapping.param_group_index, mapping.hp_fragment_address, mapping.lp_fragment_address
    return Place(_flats(engine)[group], group, here.start, there.start, here.numel)


def _flats(engine: Engine) -> list[Tensor]:
    """The fp32 tensors that this rank's optimizer updates, of ZeRO 1 to 3."""
    wrapped = engine.deepspeed.optimizer
    flats: list[Tensor]
    if engine.stage == WEIGHTS_STAGE:
        flats = wrapped.fp32_partitioned_groups_flat
    else:
        flats = (
            getattr(wrapped, "fp32_groups_flat_partition", None) or wrapped.single_partition_of_fp32_groups
        )
    return flats


def _state_of(engine: Engine, flat: Tensor, keys: tuple[str, ...]) -> dict[str, Tensor]:
    states = engine.optimizer.state
    state: dict[str, Tensor] = states[flat]
    if not state:
        if set(ADAM_STATES) <= set(keys):
            state[STEP] = torch.zeros((), dtype=torch.float32, device=flat.device)
        state |= {key: engine.new_state(flat) for key in keys}
        states[flat] = state
    return state
