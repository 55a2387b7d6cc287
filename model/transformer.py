"""Transformer: Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762.

- encoder and decoder; norm after each residual sum (LayerNorm with bias), none after the last block
- sinusoidal positions (section 3.5), added to the token embedding times sqrt(C) (section 3.4)
- MLP of four times the width with ReLU
- one embedding for source, target and vocabulary head

It was trained with label smoothing of 0.1 (section 5.4), which is a setting of the objective.

Deviations: no dropout (the paper has 0.1), as in every model here. Attention has biases, as PyTorch's own module has,
which the paper leaves open. One matrix holds query, key and value.

Letters: B batch, S time of the source, T time of the target, C hidden, H heads, D head dim, F intermediate, V vocab.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import KVCache, SourceCache
from model.config import TransformerConfig
from model.encoder_decoder import EncoderDecoder, positions_in_documents
from model.head import VocabularyHead
from model.layers import Embedding, Linear, attention, full_attention
from model.masks import document_mask, full_mask


class SelfAttention(nn.Module):
    """Multi-head self-attention: x [B, T, C] -> [B, T, C]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.head_dim = config.attention_head_dim
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value, [B, T, H, D] each."""
        return self.qkv(x).unflatten(-1, (-1, self.head_dim)).chunk(3, dim=2)  # type: ignore[no-any-return]


class FullAttention(SelfAttention):
    """Every token of the source sees all of it."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = self.split(x)
        out: Tensor = self.output(full_attention(query, key=key, value=value, mask=mask))
        return out


class CausalAttention(SelfAttention):
    """A token of the target sees itself and those before it."""

    def __init__(self, config: TransformerConfig, *, layer: int) -> None:
        super().__init__(config)
        self.layer = layer

    def forward(self, x: Tensor, mask: Tensor | None, cache: KVCache | None = None) -> Tensor:
        query, key, value = self.split(x)
        if cache is not None:
            key, value = cache.store(self.layer, key=key, value=value)  # [B, S, H, D]
        out: Tensor = self.output(attention(query, key=key, value=value, mask=mask))
        return out


class CrossAttention(nn.Module):
    """x [B, T, C] over memory [B, S, C] -> [B, T, C]."""

    def __init__(self, config: TransformerConfig, *, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.attention_head_dim
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key_value = Linear(config.hidden_size, 2 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None, cache: SourceCache | None = None
    ) -> Tensor:
        query = self.query(x).unflatten(-1, (-1, self.head_dim))  # [B, T, H, D]
        key, value = self.split(memory) if cache is None else cache.of_layer(self.layer, self.split)
        out: Tensor = self.output(full_attention(query, key=key, value=value, mask=mask))
        return out

    def split(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value, [B, S, H, D] each."""
        key, value = self.key_value(memory).unflatten(-1, (-1, self.head_dim)).chunk(2, dim=2)
        return key, value


class MLP(nn.Module):
    """x [B, T, C] -> [B, T, F] -> [B, T, C]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.up = Linear(config.hidden_size, config.intermediate_size)
        self.down = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.relu(self.up(x)))
        return out


class EncoderBlock(nn.Module):
    """Two residual steps: attention, then the MLP; the sum is normalised after each."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = FullAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention_norm(x + self.attention(x, mask))  # [B, S, C]
        out: Tensor = self.mlp_norm(x + self.mlp(x))
        return out


class DecoderBlock(nn.Module):
    """Three residual steps: attention to the target so far, to the source, then the MLP."""

    def __init__(self, config: TransformerConfig, *, layer: int) -> None:
        super().__init__()
        self.attention = CausalAttention(config, layer=layer)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.cross = CrossAttention(config, layer=layer)
        self.cross_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: Tensor,
        memory_mask: Tensor | None,
        cache: SourceCache | None = None,
    ) -> Tensor:
        own = None if cache is None else cache.target
        x = self.attention_norm(x + self.attention(x, mask, own))  # [B, T, C]
        x = self.cross_norm(x + self.cross(x, memory, memory_mask, cache))
        out: Tensor = self.mlp_norm(x + self.mlp(x))
        return out


def sinusoids(position_ids: Tensor, *, hidden_size: int) -> Tensor:
    """fp32 [.., C]: sin(p / 10000^(2i/C)) at 2i and the cosine at 2i+1, of each position p [..] (section 3.5)."""
    even = torch.arange(0, hidden_size, 2, dtype=torch.float32, device=position_ids.device)
    angles = position_ids[..., None].float() * torch.exp(
        even * (-math.log(10000.0) / hidden_size)
    )  # [.., C/2]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class Transformer(EncoderDecoder):
    """The whole model; see `EncoderDecoder` for its methods."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embedding = Embedding(self.vocab_size, config.hidden_size)
        self.encoder_blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.num_layers))
        self.blocks = nn.ModuleList(DecoderBlock(config, layer=layer) for layer in range(config.num_layers))
        self.lm_head = VocabularyHead(config.hidden_size, self.vocab_size)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Matrices U(-a, a) with a = sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010), biases 0.

        The paper gives none; this is that of the authors' code, as are embeddings of N(0, 1 / sqrt(C)).
        """
        self.tie_weights()
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                (nn.init.zeros_ if name.endswith("bias") else nn.init.ones_)(parameter)
            elif name in {"embedding.weight", "lm_head.weight"}:
                nn.init.normal_(parameter, std=self.config.hidden_size**-0.5, generator=generator)
            else:
                joined = 3 if "qkv" in name else 2 if "key_value" in name else 1
                bound = math.sqrt(6 / (parameter.shape[1] + parameter.shape[0] // joined))
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def embed(self, ids: Tensor, document_ids: Tensor | None, *, num_before: int = 0) -> Tensor:
        """Tokens and their positions, from `num_before` on: [B, T, C]."""
        x = self.embedding(ids) * math.sqrt(self.config.hidden_size)
        positions = positions_in_documents(ids, document_ids) + num_before  # [T] or [B, T]
        return torch.as_tensor(x + sinusoids(positions, hidden_size=self.config.hidden_size).to(x.dtype))

    def encode(
        self, input_ids: Tensor, *, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        x = self.embed(input_ids, document_ids)  # [B, S, C]
        mask = full_mask(attention_mask, document_ids, document_ids)
        for block in self.encoder_blocks:
            x = self.through(block, x, mask)
        return x

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
        num_tokens, num_before = decoder_input_ids.shape[1], 0 if cache is None else cache.length
        assert num_before == 0 or num_tokens == 1, "behind others, one token at a time"
        x = self.embed(decoder_input_ids, decoder_document_ids, num_before=num_before)  # [B, T, C]
        mask = None if decoder_document_ids is None else document_mask(decoder_document_ids)
        memory_mask = full_mask(attention_mask, decoder_document_ids, document_ids)
        for block in self.blocks:
            x = self.through(block, x, mask, memory, memory_mask, cache)
        if cache is not None:
            cache.advance(num_tokens)
        return x
