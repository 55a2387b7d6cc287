"""Predicting what a whole text is: a class, or a number.

Letters: B batch, T time, C hidden, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.base import LanguageModel
from model.decoder import Decoder
from model.distillation import Teacher
from model.encoder import Encoder
from model.head import IGNORED_LABEL
from model.objectives.loss import LossSum
from model.text_head import Pooling, TextHead


class Classification(nn.Module):
    """Predict the class of a text: cross-entropy of one label for each row.

    Args:
        model: an encoder, or a decoder, whose tokens see only those before them: pool its last.
        num_classes: K.
        pooling: which hidden states stand for a text.
    """

    teacher: Teacher | None = None
    "Of the same classes; heard in training mode alone."

    def __init__(self, model: Encoder | Decoder, *, num_classes: int, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.head = TextHead(model.config.hidden_size, num_classes, pooling=pooling)
        self.head.init_weights()

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
        out: Tensor = self._head()(hidden, attention_mask)
        return out

    def _head(self) -> TextHead:
        return self.head

    @staticmethod
    @torch.no_grad()
    def _taught(teacher: LanguageModel, *given: Tensor | None) -> Tensor:
        """What a teacher with a head of its own says of the same texts: [B, K]."""
        assert isinstance(teacher, Encoder | Decoder)
        return OwnClassification(teacher).logits(*given)  # type: ignore[arg-type]

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
        if self.teacher and self.training:
            taught = self._taught(self.teacher.model, input_ids, attention_mask, token_type_ids)
            soft = _soft_losses(logits, taught, labels, self.teacher.temperature)
            losses = torch.lerp(losses, soft, self.teacher.soft_weight)
        found = LossSum(losses.sum(), (labels != IGNORED_LABEL).sum(), losses.detach())
        return found if self.training else found._replace(num_right=(logits.argmax(dim=-1) == labels).sum())


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
        moments = None if self.training else moments_of(found[has_target], labels[has_target])
        return LossSum(losses.sum(), has_target.sum(), losses.detach(), moments=moments)


class _OwnHead(nn.Module):
    """With the head that is part of the model, and is stored with it."""

    model: Encoder | Decoder

    def __init__(self, model: Encoder | Decoder) -> None:
        nn.Module.__init__(self)
        self.model = model

    def _head(self) -> TextHead:
        return self.model.classifier


class OwnClassification(_OwnHead, Classification):
    """Predict the class of a text with the head of the model; see `Classification`."""


class OwnRegression(_OwnHead, Regression):
    """Predict a number of a text with the head of the model; see `Regression`."""


@torch.no_grad()
def moments_of(found: Tensor, wanted: Tensor) -> Tensor:
    """fp64 [6] sums, out of which correlations of any union of batches follow: 1, x, y, x x, y y and x y."""
    x, y = found.double(), wanted.double()
    return torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y]).sum(dim=1)


def _soft_losses(logits: Tensor, taught: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """T^2 KL(taught || logits) of each row [B], as `model.head.soft_cross_entropy`, here for autograd to follow."""
    log_p, log_q = (F.log_softmax(each.float() / temperature, dim=-1) for each in (taught, logits))
    losses = temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)
    return losses * (labels != IGNORED_LABEL)
