"""Sums of half-precision gradients in fp32: in as few passes over memory, and bytes sent, as they need."""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn


def lighten(wrapped: Any) -> None:
    """Let DeepSpeed's optimizer of half-precision weights add up gradients to the same sums with less work.

    Optimizers of other kinds, and of fp32 weights, stay as they are.
    """
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    if isinstance(wrapped, BF16_Optimizer):
        wrapped._update_hp_grad = MethodType(_add_up, wrapped)  # noqa: SLF001 - there is no setting for it
    elif isinstance(wrapped, DeepSpeedZeroOptimizer) and wrapped.partition_gradients:
        groups = range(len(wrapped.bit16_groups))
        keeps_fp32_parts = all(wrapped._use_compact_grad_partition_buffer(group) for group in groups)  # noqa: SLF001
        if keeps_fp32_parts and not (wrapped.overlap_comm or wrapped.cpu_offload):
            wrapped.average_tensor = MethodType(_exchange_parts, wrapped)


def _add_up(wrapped: Any, weight: nn.Parameter, group: int, place: int, clear_lp_grads: bool) -> None:  # noqa: FBT001
    """Each gradient is added to its sum as it is.

    By itself `BF16_Optimizer._update_hp_grad` (DeepSpeed 0.19) makes an fp32 copy of the gradient first, and adds the
    first one of a step to zeros: twice the passes over memory, for the same numbers.
    """
    if weight.grad is None:
        return
    total = wrapped.fp32_groups_gradients[group][place]
    gradient = weight.grad.detach().view(total.shape)
    if wrapped.fp32_groups_has_gradients[group][place]:
        total.add_(gradient)
    else:
        total.copy_(gradient)
    weight._hp_grad = total  # type: ignore[attr-defined]  # noqa: SLF001 - which DeepSpeed reads it by
    wrapped.fp32_groups_has_gradients[group][place] = True
    if clear_lp_grads:
        weight.grad.zero_()


def _exchange_parts(wrapped: Any, bucket_of_gradients: Tensor, communication_data_type: torch.dtype) -> None:
    """Each rank sends every other one just its part, in half precision, and adds up what it gets in fp32.

    By itself `DeepSpeedZeroOptimizer.average_tensor` (DeepSpeed 0.19) makes an fp32 copy of all gradients and sums it
    up on all ranks, of which each keeps its part: four times the bytes, for the same sums.

    Args:
        wrapped: ZeRO 2, whose ranks keep their parts of the sums in fp32.
        bucket_of_gradients: flat, of the parameters of its bucket, one behind the other.
        communication_data_type: what the bucket is called by; gradients are sent as they are.
    """
    import deepspeed.comm as dist

    ranks, rank = dist.get_world_size(wrapped.dp_process_group), dist.get_rank(wrapped.dp_process_group)
    parts: list[list[Tensor]] = [[] for _ in range(ranks)]
    sums: list[Tensor] = []
    begin = 0
    for group, place, param_id in wrapped.ipg_buckets[communication_data_type].params:
        size = wrapped.bit16_groups[group][place].numel()
        for owner, offset, numel in _owners(wrapped, group, param_id, size):
            parts[owner].append(bucket_of_gradients.narrow(0, begin + offset, numel))
            if owner == rank:
                sums.append(wrapped._get_compact_grad_partition_slice(group, owner, param_id, numel))  # noqa: SLF001
        begin += size
    if not begin:
        return
    sizes = [sum(each.numel() for each in part) for part in parts]
    received = bucket_of_gradients.new_empty(ranks * sizes[rank])
    dist.all_to_all_single(
        received,
        torch.cat([each for part in parts for each in part]),
        output_split_sizes=[sizes[rank]] * ranks,
        input_split_sizes=sizes,
        group=wrapped.dp_process_group,
    )
    lengths = [each.numel() for each in sums]
    for own in received.view(ranks, sizes[rank]):
        for total, piece in zip(sums, torch.split(own, lengths), strict=True):
            total.add_(piece, alpha=1 / ranks)  # without an fp32 copy of the piece


def _owners(wrapped: Any, group: int, param_id: int, size: int) -> list[tuple[int, int, int]]:
    """(rank, first element, elements) of a flattened parameter, for each rank that keeps some of it, in order."""
    starts = wrapped.grad_start_offset[group]
    owners = sorted(
        (starts[rank][param_id], rank) for rank in wrapped.param_to_partition_ids[group][param_id]
    )
    ends = [start for start, _ in owners[1:]] + [size]
    return [(rank, start, end - start) for (start, rank), end in zip(owners, ends, strict=True)]
