"""Predicting what a whole text is: a class, or a number.

Letters: B batch, T time, C hidden, K classes.
"""

from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.decoder import Decoder
from model.encoder import Encoder
from model.head import IGNORED_LABEL
from model.layers import Linear
from model.objectives.loss import LossSum


class Pooling(Enum):
    """Which hidden states stand for a text."""

    first = "first"
    mean = "mean"
    last = "last"


class TextHead(nn.Module):
    """Hidden states [B, T, C] -> one for each text -> tanh(W x) -> [B, K], as BERT's pooler and classifier."""

    def __init__(self, hidden_size: int, num_outputs: int, *, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling
        self.dense = Linear(hidden_size, hidden_size)
        self.output = Linear(hidden_size, num_outputs)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """N(0, 0.02), biases 0."""
        for layer in (self.dense, self.output):
            nn.init.normal_(layer.weight, std=0.02, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        real = (
            hidden.new_ones(hidden.shape[:2]) if attention_mask is None else attention_mask.to(hidden.dtype)
        )
        out: Tensor = self.output(torch.tanh(self.dense(pooled(hidden, real, self.pooling))))
        return out


def pooled(hidden: Tensor, real: Tensor, pooling: Pooling) -> Tensor:
    """What stands for each text, [B, C], of hidden [B, T, C]; real [B, T], 1 for tokens and 0 for padding."""
    if pooling is Pooling.mean:
        return (hidden * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1)
    columns = torch.arange(1, real.shape[1] + 1, device=real.device)
    place = (real * (columns if pooling is Pooling.last else columns.flip(0))).argmax(dim=1)  # [B]
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


class Classification(nn.Module):
    """Predict the class of a text: cross-entropy of one label for each row.

    Args:
        model: an encoder, or a decoder, whose tokens see only those before them: pool its last.
        num_classes: K.
        pooling: which hidden states stand for a text.
    """

    def __init__(self, model: Encoder | Decoder, *, num_classes: int, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.head = TextHead(model.config.hidden_size, num_classes, pooling=pooling)

    def logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """[B, K]; all arguments [B, T]; padding for a decoder is on the right."""
        if isinstance(self.model, Encoder):
            hidden = self.model.hidden(
                input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            )
        else:
            hidden = self.model.hidden(input_ids)
        out: Tensor = self.head(hidden, attention_mask)
        return out

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> LossSum:
        """labels: int64 [B], a class, or -100 for a row that fills a batch."""
        logits = self.logits(input_ids, attention_mask, token_type_ids).float()  # [B, K]
        losses = F.cross_entropy(logits, labels, ignore_index=IGNORED_LABEL, reduction="none")  # [B]
        return LossSum(losses.sum(), (labels != IGNORED_LABEL).sum(), losses.detach())


class Regression(Classification):
    """Predict a number of a text: the squared error of one label for each row; the arguments of Classification."""

    def __init__(self, model: Encoder | Decoder, *, pooling: Pooling) -> None:
        super().__init__(model, num_classes=1, pooling=pooling)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> LossSum:
        """labels: float [B], a number, or NaN for a row that fills a batch."""
        found = self.logits(input_ids, attention_mask, token_type_ids).float()[:, 0]  # [B]
        has_target = ~labels.isnan()
        losses = torch.where(has_target, found - labels.float().nan_to_num(), 0).square()
        return LossSum(losses.sum(), has_target.sum(), losses.detach())
