"""The vocabulary head: logits, or the cross-entropy of labels without ever holding all logits.

Letters: N tokens (B*T flattened), C hidden, V vocab.

The whole loss is one call of one module, because ZeRO-3 gathers a module's parameters in hooks around its call: the
weight is there, on every rank the same number of times, whatever the labels are and whether or not it is tied to
the embedding. Gradients are computed in the forward pass, chunk by chunk, while a chunk's logits are at hand, as in
Liger Kernel (Hsu et al. 2024): nothing is computed twice, and memory is one chunk of logits and the two gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.layers import Linear

IGNORED_LABEL = -100
"""A position with this label has no target: no loss, no gradient."""

CHUNK_LOGITS = {"cpu": 2**23, "accelerator": 2**26}
"""Logits held at once, in elements: in fp32 32 and 256 MiB, beyond which larger products are hardly faster."""

MIN_CHUNK_TOKENS = 256
"""A chunk has at least so many tokens, so that its matrix products stay efficient at a large vocabulary."""


CrossEntropy = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


class Lesson(NamedTuple):
    """What a teacher says of the same positions; see `model.distillation`."""

    logits_of: Callable[[slice], Tensor]
    "Of these rows: [n, V], without gradients."
    temperature: float
    weight: float
    "Of the soft targets; the labels have the rest."


class HeadLoss(NamedTuple):
    """loss_sum: fp32 scalar, with gradients; losses: fp32 [N], what each position adds to it, without."""

    loss_sum: Tensor
    losses: Tensor


class VocabularyHead(Linear):
    """x [.., C] -> logits [.., V]; called with labels, their cross-entropy instead."""

    def __init__(self, hidden_size: int, vocab_size: int, *, bias: bool = False) -> None:
        super().__init__(hidden_size, vocab_size, bias=bias)
        self.cross_entropy: CrossEntropy = cross_entropy
        "Of a chunk; a compiled one, of any number of tokens, may take its place."

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        smoothing: float = 0.0,
        lesson: Lesson | None = None,
    ) -> Tensor | HeadLoss:
        """Logits [.., V] in x's dtype, or with labels [..] the -log p(label) of labels >= 0, and their sum.

        With smoothing, -sum_v q(v) log p(v) for q = (1 - smoothing) onehot(label) + smoothing / V (Szegedy et al. 2016,
        section 7). With a lesson, a part of the loss is that of the teacher's soft targets.
        """
        if labels is None:
            return super().forward(x)
        x, labels = x.flatten(0, -2), labels.flatten()
        of_chunk = _taught(self.cross_entropy, lesson)
        given = (x, self.weight, self.bias, labels, smoothing, torch.is_grad_enabled(), of_chunk)
        return HeadLoss(*_ChunkedCrossEntropy.apply(*given))  # type: ignore[no-untyped-call]


def chunk_tokens(weight: Tensor) -> int:
    """Tokens whose logits are held at once, for a head's weight [V, C]."""
    kind = "cpu" if weight.device.type == "cpu" else "accelerator"
    return max(MIN_CHUNK_TOKENS, CHUNK_LOGITS[kind] // len(weight))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """-log softmax(x W^T)[label]: their sum, and each; the backward pass only scales gradients found in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        smoothing: float,
        grad_enabled: bool,  # noqa: FBT001
        of_chunk: Callable[[Tensor, Tensor, float, slice], tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        wants_x, wants_weight, wants_bias = (grad_enabled and wanted for wanted in ctx.needs_input_grad[:3])
        loss = torch.zeros((), dtype=torch.float32, device=x.device)
        losses = torch.empty(len(labels), dtype=torch.float32, device=x.device)
        grad_x = torch.empty_like(x) if wants_x else None
        # fp32 even for a bf16 weight: a sum of many chunks in bf16 would lose the small ones
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wants_bias else None
        step = chunk_tokens(weight)
        for start in range(0, len(labels), step):
            rows = slice(start, start + step)
            logits = F.linear(x[rows], weight, bias)  # [n, V]
            chunk_losses, grad_logits = of_chunk(logits, labels[rows], smoothing, rows)
            loss += chunk_losses.sum()
            losses[rows] = chunk_losses
            if grad_x is not None:
                grad_x[rows] = grad_logits @ weight
            if grad_weight is not None:
                grad_weight += grad_logits.T @ x[rows]
            if grad_bias is not None:
                grad_bias += grad_logits.sum(dim=0, dtype=torch.float32)
        found = (grad_x, grad_weight, grad_bias)
        ctx.save_for_backward(*(None if each is None else each.to(weight.dtype) for each in found))
        ctx.mark_non_differentiable(losses)
        ctx.set_materialize_grads(False)
        return loss, losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
        found = (
            None if g is None else (g.float() * grad).to(g.dtype)
            for g in ctx.saved_tensors  # bf16 of `grad` is 0.4% off
        )
        return (*found, None, None, None, None)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Losses [n] in fp32; d loss / d logits = softmax - q [n, V] in the logits' dtype, 0 without a label.

    One pass of exponentials serves both. The largest probability is exp(max logit) / sum exp(logit) and at least 1 / V,
    so that log(sum exp(logit)) = max logit - log(max probability) without a second pass, and without underflow.
    """
    has_label = labels != IGNORED_LABEL  # [n]
    label = labels.clamp(min=0)[:, None]  # [n, 1]
    probs = torch.softmax(logits, dim=-1, dtype=torch.float32)  # [n, V]
    log_sum = logits.amax(dim=-1).float() - probs.amax(dim=-1).log()  # [n]
    losses = log_sum - logits.gather(1, label)[:, 0].float()
    probs.scatter_add_(1, label, torch.full_like(label, smoothing - 1, dtype=torch.float32))
    if smoothing:
        even = log_sum - logits.mean(dim=-1, dtype=torch.float32)  # the mean of -log p over the vocabulary
        losses = (1 - smoothing) * losses + smoothing * even
        probs -= smoothing / logits.shape[-1]
    return losses * has_label, probs.mul_(has_label[:, None]).to(logits.dtype)


def _taught(
    of_labels: CrossEntropy, lesson: Lesson | None
) -> Callable[[Tensor, Tensor, float, slice], tuple[Tensor, Tensor]]:
    """Losses and gradients of the logits of these rows: of the labels, and of the lesson if there is one."""

    def of_chunk(logits: Tensor, labels: Tensor, smoothing: float, rows: slice) -> tuple[Tensor, Tensor]:
        losses, grad_logits = of_labels(logits, labels, smoothing)
        if lesson is None:
            return losses, grad_logits
        soft, grad_soft = soft_cross_entropy(logits, lesson.logits_of(rows), labels, lesson.temperature)
        hard = 1 - lesson.weight
        grad = grad_soft.mul_(lesson.weight).add_(grad_logits, alpha=hard)
        return hard * losses + lesson.weight * soft, grad.to(logits.dtype)

    return of_chunk


def soft_cross_entropy(
    logits: Tensor, taught: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """T^2 KL(p || q) of p = softmax(taught / T) and q = softmax(logits / T), [n]; T (q - p), [n, V]; both in fp32.

    logits, taught [n, V]; 0 where labels [n] have no target. T^2 keeps gradients of one size at all temperatures T
    (Hinton et al. 2015, section 2).
    """
    has_label = (labels != IGNORED_LABEL)[:, None]  # [n, 1]
    log_p = F.log_softmax(taught.float() / temperature, dim=-1)
    log_q = F.log_softmax(logits.float() / temperature, dim=-1)
    p = log_p.exp()
    losses = temperature**2 * (p * (log_p - log_q)).sum(dim=-1)
    return losses * has_label[:, 0], (log_q.exp() - p).mul_(temperature).mul_(has_label)
