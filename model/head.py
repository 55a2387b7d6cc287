"""The vocabulary head: logits, or the cross-entropy of labels without ever holding all logits.

Letters: N tokens (B*T flattened), C hidden, V vocab.

The whole loss is one call of one module, because ZeRO-3 gathers a module's parameters in hooks around its call: the
weight is there, on every rank the same number of times, whatever the labels are and whether or not it is tied to
the embedding. Gradients are computed in the forward pass, chunk by chunk, while a chunk's logits are at hand, as in
Liger Kernel (Hsu et al. 2024): nothing is computed twice, and memory is one chunk of logits and the two gradients.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.layers import Linear

IGNORED_LABEL = -100
"""A position with this label has no target: no loss, no gradient."""

CHUNK_LOGITS = 2**22
"""Logits held at once, in elements: 16 MiB in fp32, which stays near a CPU's last-level cache."""

MIN_CHUNK_TOKENS = 256
"""A chunk has at least so many tokens, so that its matrix products stay efficient at a large vocabulary."""


class VocabularyHead(Linear):
    """x [.., C] -> logits [.., V]; called with labels, their summed cross-entropy instead."""

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__(hidden_size, vocab_size, bias=False)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [.., V] in x's dtype, or with labels [..] the fp32 scalar sum of -log p(label) over labels >= 0."""
        if labels is None:
            return super().forward(x)
        x, labels = x.flatten(0, -2), labels.flatten()
        loss: Tensor = _ChunkedCrossEntropy.apply(x, self.weight, labels, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
        return loss


def chunk_tokens(vocab_size: int) -> int:
    """Tokens whose logits are held at once."""
    return max(MIN_CHUNK_TOKENS, CHUNK_LOGITS // vocab_size)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum over tokens of -log softmax(x W^T)[label]; the backward pass only scales gradients found in the forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, labels: Tensor, grad_enabled: bool) -> Tensor:  # noqa: FBT001
        wants_x, wants_weight = (grad_enabled and wanted for wanted in ctx.needs_input_grad[:2])
        loss = torch.zeros((), dtype=torch.float32, device=x.device)
        grad_x = torch.empty_like(x) if wants_x else None
        # fp32 even for a bf16 weight: a sum of many chunks in bf16 would lose the small ones
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        for start in range(0, len(labels), chunk_tokens(len(weight))):
            rows = slice(start, start + chunk_tokens(len(weight)))
            logits = F.linear(x[rows], weight)  # [n, V]
            log_probs = F.log_softmax(logits, dim=-1, dtype=torch.float32)  # [n, V]
            loss += F.nll_loss(log_probs, labels[rows], reduction="sum", ignore_index=IGNORED_LABEL)
            if not (wants_x or wants_weight):
                continue
            grad_logits = _grad_logits(log_probs, labels[rows]).to(logits.dtype)  # [n, V]
            if grad_x is not None:
                grad_x[rows] = grad_logits @ weight
            if grad_weight is not None:
                grad_weight += grad_logits.T @ x[rows]
        ctx.save_for_backward(grad_x, None if grad_weight is None else grad_weight.to(weight.dtype))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad_x, grad_weight = (None if g is None else g * grad.to(g.dtype) for g in ctx.saved_tensors)
        return grad_x, grad_weight, None, None


def _grad_logits(log_probs: Tensor, labels: Tensor) -> Tensor:
    """[n, V]: d loss / d logits = softmax - onehot(label), 0 where there is no label; overwrites log_probs."""
    has_label = labels != IGNORED_LABEL
    grad = log_probs.exp_()
    grad.scatter_add_(1, labels.clamp(min=0)[:, None], -has_label[:, None].to(grad.dtype))
    return grad.mul_(has_label[:, None])
