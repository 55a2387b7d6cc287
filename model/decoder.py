"""What the objective, generation, storage and export may rely on in a decoder-only language model."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model.base import LanguageModel
from model.cache import KVCache
from model.config import classes_of, reads_prompts_whole
from model.head import VocabularyHead
from model.masks import Mask, added_mask, causal_mask
from model.recompute import Recompute
from model.text_head import text_head


class Decoder(LanguageModel):
    """Token ids [B, T] -> hidden states [B, T, C] -> logits [B, T, V], causally."""

    sees_prefix: ClassVar[bool] = True
    "Whether tokens can see those after them where both are of a prefix."
    can_be_compiled = True
    blocks: nn.ModuleList

    def add_head(self) -> None:
        """What the config has at the end: a head for the vocabulary, or one that tells classes apart."""
        if classes_of(self.config):
            self.classifier = text_head(self.config)
        else:
            self.lm_head = VocabularyHead(self.config.hidden_size, self.vocab_size)

    @abstractmethod
    def hidden(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Hidden states [B, T, C] after the last norm.

        Args:
            input_ids: int64 [B, T].
            position_ids: int64 [B, T]; default: 0, 1, 2, … or what the cache says.
            document_ids: int [B, T]; a token sees only earlier tokens of an equal id. Default: all earlier tokens.
            prefix_mask: [B, T], 1 for tokens that all of their document sees. Default: none; see `sees_prefix`.
            cache: what `new_cache` made and earlier tokens filled; the new ones are added. Excludes the three above.
        """

    def mask(
        self,
        input_ids: Tensor,
        document_ids: Tensor | None,
        prefix_mask: Tensor | None,
        *,
        window: int | None = None,
    ) -> Mask | None:
        """What `attention` may see among tokens [B, T]; None where it is causal and nothing more."""
        found = causal_mask(
            input_ids.shape[1],
            device=input_ids.device,
            document_ids=document_ids,
            prefix_mask=prefix_mask,
            window=window,
            # selective recomputation looks at every operation, and into no compiled function
            in_blocks=self.activation_checkpointing is not Recompute.selective,
        )
        return added_mask(found, self.embedding.weight.dtype) if isinstance(found, Tensor) else found

    def new_cache(self, *, num_padding: Tensor, capacity: int, dtype: torch.dtype) -> Any:
        """What `hidden` keeps of the tokens it has read, empty: for prompts padded by num_padding [B] on their left.

        It holds up to `capacity` columns, padding included, in `dtype`.
        """
        reads_whole = reads_prompts_whole(self.config)
        return KVCache(
            self.config, num_padding=num_padding, capacity=capacity, dtype=dtype, reads_whole=reads_whole
        )

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Logits [B, T, V]; the arguments of `hidden`. Training goes through `CausalLM`, which never holds them."""
        hidden = self.hidden(
            input_ids,
            position_ids=position_ids,
            document_ids=document_ids,
            prefix_mask=prefix_mask,
            cache=cache,
        )
        logits: Tensor = self.lm_head(hidden)
        return logits


def decoder(model: LanguageModel) -> Decoder:
    """The model itself, as one that continues text. Raises ValueError where its architecture does not."""
    if isinstance(model, Decoder) and model.config.has_lm_head:
        return model
    kind = f"{model.config.architecture} model" + (" with classes" if classes_of(model.config) else "")
    raise ValueError(f"a {kind} does not continue text; allowed: a decoder, such as llama")
