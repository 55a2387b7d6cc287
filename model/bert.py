"""BERT: Devlin et al. 2018, https://arxiv.org/abs/1810.04805; with the settings of RoBERTa and DistilBERT.

- every token sees the whole text, before and after it
- norm after each residual sum (LayerNorm with bias), and one after the embeddings
- learned absolute positions and token types (which text of a pair), added to the token embedding
- MLP of four times the width with GELU
- head for masked tokens: a dense layer with GELU and a norm, then the embedding matrix with a bias for each token

RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692) and DistilBERT (Sanh et al. 2019,
https://arxiv.org/abs/1910.01108) are the same mathematics: see `BertConfig`.

Deviations: no dropout (the paper has 0.1), as in every model here. No next-sentence prediction, which RoBERTa
(section 4.2) found to help nothing, and so no pooler, which only that objective trains. One matrix holds query, key and
value. RoBERTa's position table is stored without the rows that no token uses; `model.hf` puts them back.

Letters: B batch, T time, C hidden, H heads, D head dim, F intermediate, V vocab.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import BertConfig
from model.encoder import Encoder
from model.head import HeadLoss, Lesson, VocabularyHead
from model.layers import Embedding, Linear, full_attention
from model.masks import added_mask, full_mask
from model.text_head import text_head


class Attention(nn.Module):
    """Multi-head self-attention over the whole text: x [B, T, C] -> [B, T, C]."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.head_dim = config.attention_head_dim
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [B, T, 3H, D]
        query, key, value = qkv.chunk(3, dim=2)  # [B, T, H, D] each
        out: Tensor = self.output(full_attention(query, key=key, value=value, mask=mask))
        return out


class MLP(nn.Module):
    """x [B, T, C] -> [B, T, F] -> [B, T, C]."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.up = Linear(config.hidden_size, config.intermediate_size)
        self.down = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(x)))
        return out


class Block(nn.Module):
    """Two residual steps: attention, then the MLP; the sum is normalised after each."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention_norm(x + self.attention(x, mask))  # [B, T, C]
        out: Tensor = self.mlp_norm(x + self.mlp(x))
        return out


class MaskedLMHead(VocabularyHead):
    """x [.., C] -> logits [.., V], or the loss of labels: norm(gelu(W x)) E^T + bias."""

    def __init__(self, config: BertConfig, vocab_size: int) -> None:
        super().__init__(config.hidden_size, vocab_size, bias=True)
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        smoothing: float = 0.0,
        lesson: Lesson | None = None,
    ) -> Tensor | HeadLoss:
        x = self.norm(F.gelu(self.dense(x)))
        return super().forward(x, labels, smoothing=smoothing, lesson=lesson)


class Bert(Encoder):
    """The whole model; see `Encoder` for its methods."""

    config: BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.embedding = Embedding(self.vocab_size, config.hidden_size)
        self.position_embedding = Embedding(config.max_seq_len, config.hidden_size)
        self.type_embedding = (
            Embedding(config.num_token_types, config.hidden_size) if config.num_token_types else None
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        if config.masked_lm_head:
            self.lm_head = MaskedLMHead(config, self.vocab_size)
        if config.classes:
            self.classifier = text_head(config)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """N(0, 0.02), cut off at two standard deviations, and biases 0: as in the authors' code."""
        self.tie_weights()
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:  # the norms
                nn.init.ones_(parameter)
            else:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04, generator=generator)

    def hidden(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)  # [T], for every row
        x = self.embedding(input_ids) + self.position_embedding(position_ids)  # [B, T, C]
        if self.type_embedding is not None:
            types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            x = x + self.type_embedding(types)
        x = self.norm(x)
        mask = full_mask(attention_mask, document_ids, document_ids)
        if mask is not None:
            mask = added_mask(mask, x.dtype)
        for block in self.blocks:
            x = self.through(block, x, mask)
        return torch.as_tensor(x)
