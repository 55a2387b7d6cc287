"""Encoders: BERT with RoBERTa's and DistilBERT's settings. Torch-free."""

from dataclasses import dataclass, field
from typing import ClassVar

from model.config.base import ADDED_LATER, AttentionConfig, Size, text_head_size


@dataclass
class BertConfig(AttentionConfig):
    """BERT (Devlin et al. 2018). The defaults are the published base model's.

    RoBERTa (Liu et al. 2019) is BERT with num_token_types 1, norm_eps 1e-5 and another training; DistilBERT (Sanh et
    al. 2019) is BERT with half the layers and num_token_types 0.
    """

    architecture: str = "bert"
    "Always bert."
    max_seq_len: int = 512
    "Longest sequence, in tokens; >= 1."
    norm_eps: float = 1e-12
    "Added to the variance in each norm; > 0."
    num_token_types: int = 2
    "Rows of the table that tells the texts of a pair apart: 2 BERT, 1 RoBERTa, 0 no table, as DistilBERT."
    masked_lm_head: bool = True
    "Whether there is a head that predicts masked tokens; a sentence encoder has none."

    classes: list[str] = field(default_factory=list, metadata=ADDED_LATER)
    "What a head for whole texts tells apart, in the order of its outputs; empty: there is no such head."

    is_causal: ClassVar[bool] = False
    may_be_zero: ClassVar[tuple[str, ...]] = ("num_token_types",)

    @property
    def has_lm_head(self) -> bool:
        return self.masked_lm_head

    def size(self) -> Size:
        width, inner = self.hidden_size, self.intermediate_size
        attention = 4 * width * width + 4 * width
        mlp = 2 * width * inner + inner + width
        norm = 2 * width
        lookups, head = (self.max_seq_len + self.num_token_types) * width, 0
        if self.masked_lm_head:  # transform, its norm, a bias for each token
            head = width * width + width + norm + self.embedding_size() // width + self.embedding_size()
        if not (self.masked_lm_head and self.tie_embeddings):
            lookups += self.embedding_size()
        return Size(
            lookups=lookups + text_head_size(self),
            blocks=self.num_layers * (attention + mlp + 2 * norm),
            rest=norm + head,  # the embeddings' norm
            attention=self.num_layers * width,
        )
