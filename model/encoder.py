"""What the objectives, storage and export may rely on in an encoder."""

from abc import abstractmethod

from torch import Tensor

from model.base import LanguageModel


class Encoder(LanguageModel):
    """Token ids [B, T] -> hidden states [B, T, C], each of which has seen the whole text -> logits [B, T, V]."""

    @abstractmethod
    def hidden(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, C] of the last block.

        Args:
            input_ids: int64 [B, T].
            attention_mask: [B, T], 0 for padding, which no token sees. Default: no padding.
            token_type_ids: int64 [B, T], which text of a pair a token is of. Default: 0.
            position_ids: int64 [B, T]; default: 0, 1, 2, …
            document_ids: int [B, T]; a token sees only tokens of an equal id. Default: all.
        """

    def forward(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the vocabulary head; the arguments of `hidden`."""
        hidden = self.hidden(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            document_ids=document_ids,
        )
        logits: Tensor = self.lm_head(hidden)
        return logits
