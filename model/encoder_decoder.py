"""What the objectives, generation, storage and export may rely on in an encoder-decoder."""

from abc import abstractmethod

import torch
from torch import Tensor

from model.base import LanguageModel
from model.cache import KVCache, SourceCache


class EncoderDecoder(LanguageModel):
    """A source [B, S] and the target so far [B, T] -> hidden states [B, T, C] -> logits [B, T, V] of what follows.

    Documents that are packed into one row are contiguous, in the source and in the target; a target's tokens see the
    source of an equal id.
    """

    @abstractmethod
    def encode(
        self, input_ids: Tensor, *, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """The source as hidden states [B, S, C]; see `hidden`."""

    @abstractmethod
    def decode(
        self,
        decoder_input_ids: Tensor,
        memory: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        cache: SourceCache | None = None,
    ) -> Tensor:
        """Hidden states [B, T, C] of the target, of which each token sees itself, those before, and the whole memory.

        Args:
            decoder_input_ids: int64 [B, T].
            memory: [B, S, C] of `encode`.
            attention_mask: of the source, as `document_ids`; see `hidden`.
            document_ids: likewise.
            decoder_document_ids: of the target.
            cache: what `new_cache` made of this source, and earlier tokens filled; the new ones are added. Excludes
                document ids.
        """

    def new_cache(self, memory: Tensor, *, attention_mask: Tensor | None, capacity: int) -> SourceCache:
        """What `decode` keeps of a source [B, S, C], with its mask [B, S], and of up to `capacity` target tokens."""
        none = torch.zeros(len(memory), dtype=torch.long, device=memory.device)  # a target has no padding
        target = KVCache(self.config, num_padding=none, capacity=capacity, dtype=memory.dtype)
        return SourceCache(memory, attention_mask=attention_mask, target=target)

    def hidden(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, C], ready for the vocabulary head.

        Args:
            input_ids: int64 [B, S], the source.
            decoder_input_ids: int64 [B, T], the target behind its start token.
            attention_mask: [B, S], 0 for padding of the source, which no token sees. Padding of a target is on its
                right, where no real token sees it either. Default: no padding.
            document_ids: int [B, S]; default: one document.
            decoder_document_ids: int [B, T]; given with document_ids, or not at all.
        """
        memory = self.encode(input_ids, attention_mask=attention_mask, document_ids=document_ids)
        return self.decode(
            decoder_input_ids,
            memory,
            attention_mask=attention_mask,
            document_ids=document_ids,
            decoder_document_ids=decoder_document_ids,
        )

    def forward(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, V]; the arguments of `hidden`."""
        hidden = self.hidden(
            input_ids,
            decoder_input_ids,
            attention_mask=attention_mask,
            document_ids=document_ids,
            decoder_document_ids=decoder_document_ids,
        )
        logits: Tensor = self.lm_head(hidden)
        return logits


def positions_in_documents(ids: Tensor, document_ids: Tensor | None) -> Tensor:
    """int64 [T], or [B, T] where documents are packed: 0, 1, 2, … from the first token of each contiguous document."""
    columns = torch.arange(ids.shape[1], device=ids.device)  # [T]
    if document_ids is None:
        return columns
    begins = torch.ones_like(document_ids, dtype=torch.bool)  # [B, T]
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return columns - torch.where(begins, columns, 0).cummax(dim=1).values
