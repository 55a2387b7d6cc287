"""What the objective, generation, storage and export may rely on in a decoder-only language model."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model.cache import KVCache
from model.config import ModelConfig
from model.head import VocabularyHead
from model.layers import Embedding

if TYPE_CHECKING:
    from model.recompute import Recompute


class Decoder(nn.Module):
    """Token ids [B, T] -> hidden states [B, T, C] -> logits [B, T, V], causally."""

    embedding: Embedding
    blocks: nn.ModuleList
    lm_head: VocabularyHead

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.vocab_size is not None, "vocab_size must be known before a model is built"
        self.config = config
        self.vocab_size = config.vocab_size
        self.activation_checkpointing: Recompute | None = None
        "What the backward pass computes again of each block, to need less memory. None: nothing."

    @abstractmethod
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter in place from `generator` (None: torch's own, as `torch.manual_seed` left it).

        The constructor calls it. After `build_model` on the meta device, call it again behind `to_empty`: it also ties
        the embeddings, which `to_empty` unties.
        """

    @abstractmethod
    def hidden(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states [B, T, C] after the last norm.

        Args:
            input_ids: int64 [B, T].
            position_ids: int64 [B, T]; default: 0, 1, 2, … or what the cache says.
            document_ids: int [B, T]; a token sees only earlier tokens of an equal id. Default: all earlier tokens.
            cache: keys and values of earlier tokens; the new ones are added to it. Excludes the two above.
        """

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits [B, T, V]; the arguments of `hidden`. Training goes through `CausalLM`, which never holds them."""
        hidden = self.hidden(input_ids, position_ids=position_ids, document_ids=document_ids, cache=cache)
        logits: Tensor = self.lm_head(hidden)
        return logits

    def tie_weights(self) -> None:
        if self.config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight
