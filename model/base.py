"""What training, storage and export may rely on in every architecture."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.head import VocabularyHead
from model.layers import Embedding
from model.recompute import Recompute, through
from model.text_head import TextHead


class LanguageModel(nn.Module):
    """A model with a token embedding and, unless its config says otherwise, a vocabulary head."""

    can_be_compiled: ClassVar[bool] = False
    "Whether torch.compile fuses what its `blocks` do; not where they are one kernel each already."
    embedding: Embedding
    lm_head: VocabularyHead
    "There where the config says `has_lm_head`."
    classifier: TextHead
    "There where the config names classes."

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

        `build_model` calls it, save on the meta device: call it there behind `to_empty`. It also ties the embeddings,
        which `to_empty` unties.
        """

    def tie_weights(self) -> None:
        if self.config.tie_embeddings and self.config.has_lm_head:
            self.lm_head.weight = self.embedding.weight

    def through(self, block: nn.Module, x: Tensor, *others: Any) -> Tensor:
        """What the block makes of x; the backward pass computes again what `activation_checkpointing` says."""
        return through(block, x, *others, recompute=self.activation_checkpointing)
