"""The sum of losses and the count of targets of a batch, from the hidden states before the vocabulary head.

Letters: B batch, T time, C hidden, N targets.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from model.base import LanguageModel
from model.distillation import Teacher
from model.head import IGNORED_LABEL

SKIP_FRACTION = 0.25
"""Positions without a target are left out of the vocabulary head when they are at least this part of the batch."""


class LossSum(NamedTuple):
    """loss_sum: fp32 scalar, nats summed over the targets; num_targets: int64 scalar; by_sequence: fp32 [B]."""

    loss_sum: Tensor
    num_targets: Tensor
    by_sequence: Tensor
    "What each sequence adds to loss_sum, without a gradient."
    num_right: Tensor | None = None
    "int64 scalar: targets that the model finds likeliest, where the objective counts them: in evaluation mode."
    moments: Tensor | None = None
    "fp64 [6]: of numbers that were predicted and their targets, in evaluation mode; see `moments_of`."


class Targets:
    """Labels [B, T], and whether so few of them are targets that the head is shown those alone.

    Made before the model's kernels are queued, so that an accelerator does not wait for the host to read the number.
    """

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels
        self.has_target = labels != IGNORED_LABEL  # [B, T]
        self.num_targets = self.has_target.sum()
        self.skip = int(self.num_targets) <= (1 - SKIP_FRACTION) * labels.numel()

    @torch.no_grad()
    def num_right(self, model: LanguageModel, hidden: Tensor) -> Tensor:
        """How many targets the vocabulary head finds likeliest, of hidden [B, T, C]."""
        logits = model.lm_head(hidden[self.has_target])  # [N, V]
        return torch.as_tensor((logits.argmax(dim=-1) == self.labels[self.has_target]).sum())

    def loss(
        self,
        model: LanguageModel,
        hidden: Tensor,
        *,
        smoothing: float = 0.0,
        teacher: Teacher | None = None,
        taught: Tensor | None = None,
    ) -> LossSum:
        """Of the vocabulary head over hidden [B, T, C], and of what a teacher has made of the same, [B, T, D]."""
        labels = self._chosen(self.labels)
        hidden = self._chosen(hidden)  # [N, C]
        if teacher is None or taught is None:
            loss_sum, losses = model.lm_head(hidden, labels, smoothing=smoothing)  # [], [N]
        else:
            taught = self._chosen(taught)
            loss_sum, losses = model.lm_head(
                hidden, labels, smoothing=smoothing, lesson=teacher.lesson(taught)
            )
            if teacher.hidden_weight:
                apart = teacher.apart(hidden, taught, labels != IGNORED_LABEL)  # [N]
                loss_sum, losses = loss_sum + apart.sum(), losses + apart.detach()
        shape = self.has_target.shape
        if self.skip:
            losses = losses.new_zeros(shape).masked_scatter(self.has_target, losses)  # [B, T]
        return LossSum(loss_sum, self.num_targets, losses.view(shape).sum(dim=1))

    def _chosen(self, of_all: Tensor) -> Tensor:
        """Of [B, T, ..] what the head is shown, [N, ..]."""
        return of_all[self.has_target] if self.skip else of_all.flatten(0, 1)
