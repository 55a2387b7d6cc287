"""Sums of bf16 gradients in fp32, in as few passes over memory as they need."""

from types import MethodType
from typing import Any

from torch import nn


def add_up_in_one_pass(wrapped: Any) -> None:
    """Let DeepSpeed's BF16_Optimizer add each gradient to its sum as it is; other optimizers stay as they are.

    By itself it makes an fp32 copy of the gradient first, and adds the first one of a step to zeros: twice the passes
    over memory, for the same numbers.
    """
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer

    if isinstance(wrapped, BF16_Optimizer):
        wrapped._update_hp_grad = MethodType(_add_up, wrapped)  # noqa: SLF001 - there is no setting for it


def _add_up(wrapped: Any, weight: nn.Parameter, group: int, place: int, clear_lp_grads: bool) -> None:  # noqa: FBT001
    """What `BF16_Optimizer._update_hp_grad` does (DeepSpeed 0.19)."""
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
