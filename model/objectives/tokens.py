"""Predicting tokens: the next, the next behind a prefix, the masked, the next of a target.

Letters: B batch, T time (of the target), S time of the source, C hidden.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from model.decoder import Decoder
from model.distillation import Teacher
from model.encoder import Encoder
from model.encoder_decoder import EncoderDecoder
from model.head import IGNORED_LABEL
from model.objectives.loss import LossSum, Targets


class OfTokens(nn.Module):
    """An objective that a vocabulary head serves, with or without a teacher."""

    model: Decoder | Encoder | EncoderDecoder
    teacher: Teacher | None = None
    "Heard in training mode alone."

    def _loss(
        self, targets: Targets, *given: Any, smoothing: float = 0.0, **named: Any
    ) -> tuple[LossSum, Tensor]:
        """And the hidden states [B, T, C], of what the model is to read."""
        hidden = self.model.hidden(*given, **named)
        teacher = self.teacher if self.training else None
        taught = teacher.hidden(*given, **named) if teacher else None
        return targets.loss(self.model, hidden, smoothing=smoothing, teacher=teacher, taught=taught), hidden


class CausalLM(OfTokens):
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
        targets = Targets(labels)
        return self._loss(targets, input_ids, position_ids=position_ids, document_ids=document_ids)[0]


class PrefixLM(OfTokens):
    """Predict what follows a prefix that every token sees whole (Raffel et al. 2019, section 3.2.1).

    Raises ValueError for a recurrent model, which has read no token before its turn.
    """

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        if not model.sees_prefix:
            raise ValueError(
                f"a {model.config.architecture} model cannot see a prefix whole; allowed: gpt2, llama"
            )
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        prefix_mask: Tensor,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> LossSum:
        """As CausalLM; prefix_mask [B, T], 1 for the prefix of each document, of which no token is a target."""
        follows_in_prefix = F.pad(prefix_mask[:, 1:].bool(), (0, 1))  # the token that the label is
        targets = Targets(labels.masked_fill(follows_in_prefix, IGNORED_LABEL))
        return self._loss(
            targets,
            input_ids,
            position_ids=position_ids,
            document_ids=document_ids,
            prefix_mask=prefix_mask,
        )[0]


class MaskedLM(OfTokens):
    """Predict tokens that were masked, from both sides (Devlin et al. 2018, section 3.1)."""

    def __init__(self, model: Encoder) -> None:
        super().__init__()
        if not model.config.has_lm_head:
            raise ValueError(f"this {model.config.architecture} model has no head that predicts tokens")
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> LossSum:
        """All [B, T]; labels[b, t] is the token that was at input_ids[b, t], or -100 where none is to be predicted."""
        targets = Targets(labels)
        found, hidden = self._loss(
            targets,
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            document_ids=document_ids,
        )
        if self.training:
            return found
        return found._replace(num_right=targets.num_right(self.model, hidden))


class Seq2SeqLM(OfTokens):
    """Predict each next token of a target, given a source: translation, or the spans that are missing in a text.

    Args:
        model: an encoder-decoder.
        label_smoothing: probability that training spreads over the vocabulary (Szegedy et al. 2016, section 7); [0, 1).
    """

    def __init__(self, model: EncoderDecoder, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        assert 0 <= label_smoothing < 1
        self.model = model
        self.label_smoothing = label_smoothing

    def forward(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
    ) -> LossSum:
        """Source [B, S] with its mask, target [B, T]; labels[b, t] follows decoder_input_ids[b, t], or is -100."""
        targets = Targets(labels)
        return self._loss(
            targets,
            input_ids,
            decoder_input_ids,
            smoothing=self.label_smoothing if self.training else 0.0,
            attention_mask=attention_mask,
            document_ids=document_ids,
            decoder_document_ids=decoder_document_ids,
        )[0]
