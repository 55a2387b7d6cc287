"""The least that trains the benchmarks' model: what a loop of one's own would be, with nothing beside it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from trainings import MODEL

Around = Callable[[nn.Module], Any]
"""From the model with its loss to what is called in each step: itself, compiled, or shared with other ranks."""


def plain_loop(
    batches: Iterable[torch.Tensor],
    *,
    precision: str,
    around: Around,
    num_tokens: int,
    look: Callable[[], None] | None = None,
) -> None:
    """Fused AdamW and clipping; in bf16 the optimizer works on fp32 copies of the weights.

    Args:
        batches: token ids [B, T + 1].
        precision: bf16 or fp32, of the weights and of what is computed with them.
        around: what becomes of the objective before it is called.
        num_tokens: what the sum of losses is divided by.
        look: called when the gradients are whole, before the optimizer's step.
    """
    from model.objectives import CausalLM
    from model.registry import build_model

    torch.manual_seed(0)
    objective = CausalLM(build_model(MODEL))
    weights = masters = list(objective.parameters())
    if precision == "bf16":
        masters = [weight.detach().clone() for weight in weights]
        objective.bfloat16()
    optimizer = torch.optim.AdamW(masters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    loss_of = around(objective)
    for tokens in batches:
        loss = loss_of(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()).loss_sum / num_tokens
        loss.backward()
        if masters is not weights:
            for master, weight in zip(masters, weights, strict=True):
                assert weight.grad is not None
                master.grad, weight.grad = weight.grad.float(), None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        if look:
            look()
        optimizer.step()
        optimizer.zero_grad()
        if masters is not weights:
            with torch.no_grad():
                torch._foreach_copy_(weights, masters)
        loss.item()
