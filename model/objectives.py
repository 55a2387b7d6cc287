"""What a model is trained to do: each objective turns a batch into a sum of losses and a count of targets.

A sum and a count, not a mean: micro batches and ranks hold different numbers of targets, and only the sum over all of
them divided by the count over all of them is the global batch's mean.

Letters: B batch, T time, C hidden.
"""

from typing import NamedTuple

from torch import Tensor, nn

from model.decoder import Decoder
from model.head import IGNORED_LABEL

SKIP_FRACTION = 0.25
"""Positions without a target are left out of the vocabulary head when they are at least this part of the batch."""


class LossSum(NamedTuple):
    """loss_sum: fp32 scalar, nats summed over the targets; num_targets: int64 scalar; by_sequence: fp32 [B]."""

    loss_sum: Tensor
    num_targets: Tensor
    by_sequence: Tensor
    "What each sequence adds to loss_sum, without a gradient."


class CausalLM(nn.Module):
    """Predict each next token: cross-entropy of labels given all tokens up to their position."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> LossSum:
        """All int64 [B, T]; labels[b, t] is the token that follows input_ids[b, t], or -100 for no target."""
        has_target = labels != IGNORED_LABEL  # [B, T]
        num_targets = has_target.sum()
        # read on the host before the model's kernels are queued, so that an accelerator does not wait for it
        skip = int(num_targets) <= (1 - SKIP_FRACTION) * labels.numel()
        hidden = self.model.hidden(
            input_ids, position_ids=position_ids, document_ids=document_ids
        )  # [B, T, C]
        if skip:
            hidden, labels = hidden[has_target], labels[has_target]  # [N, C], [N]
        loss_sum, losses = self.model.lm_head(hidden, labels)  # [], [N]
        if skip:
            losses = losses.new_zeros(has_target.shape).masked_scatter(has_target, losses)  # [B, T]
        return LossSum(loss_sum, num_targets, losses.view(has_target.shape).sum(dim=1))
