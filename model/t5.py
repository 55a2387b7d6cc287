"""T5: Raffel et al. 2019, https://arxiv.org/abs/1910.10683; version 1, and 1.1 with its gated MLP.

- encoder and decoder; norm before each sublayer (RMSNorm), and one after each stack; no biases anywhere
- relative positions: a learned number for each head and bucket of distances, added to the attention scores of every
  layer; buckets are exact for small distances, and grow with the logarithm of larger ones (section 2.1)
- attention scores are not divided by sqrt(D): the initial weights of the queries are that much smaller
- version 1: MLP with ReLU, and the embedding as vocabulary head, before which hidden states are divided by sqrt(C)
- version 1.1: down(gelu(gate(x)) * up(x)) (https://arxiv.org/abs/2002.05202), and a head of its own

Deviations: no dropout, as in every model here. One matrix holds query, key and value, and one gate and up. The untied
head begins at 1 / sqrt(C), as in the authors' T5X.

Letters: B batch, S time of the source, T time of the target, C hidden, H heads, D head dim, F intermediate, V vocab.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import KVCache, SourceCache
from model.config import T5Config
from model.encoder_decoder import EncoderDecoder
from model.head import VocabularyHead
from model.layers import Embedding, Linear, RMSNorm, full_attention
from model.masks import document_mask, full_mask


class RelativePositions(nn.Module):
    """What the distance between a query and a key adds to their score: [1, H, T, S] for the last T of S tokens."""

    def __init__(self, config: T5Config, *, both_ways: bool) -> None:
        super().__init__()
        self.buckets, self.distance, self.both_ways = (
            config.relative_buckets,
            config.relative_distance,
            both_ways,
        )
        self.table = Embedding(config.relative_buckets, config.num_heads)

    def forward(self, num_queries: int, num_keys: int) -> Tensor:
        columns = torch.arange(num_keys, device=self.table.weight.device)
        distances = columns[None, :] - columns[num_keys - num_queries :, None]  # [T, S]: key minus query
        scores: Tensor = self.table(self.bucket(distances))  # [T, S, H]
        return scores.permute(2, 0, 1)[None]

    def bucket(self, distances: Tensor) -> Tensor:
        """Half of the buckets for keys after the query where both ways are seen; half of each half are exact."""
        buckets, first = self.buckets, torch.zeros_like(distances)
        if self.both_ways:
            buckets //= 2
            first = (distances > 0) * buckets
            distances = distances.abs()
        else:
            distances = (-distances).clamp(min=0)
        exact = buckets // 2
        ratio = (distances.clamp(min=1).float() / exact).log() / math.log(self.distance / exact)
        far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
        return first + torch.where(distances < exact, distances, far)


class SelfAttention(nn.Module):
    """x [B, T, C] -> [B, T, C]; scores [B or 1, H, T, S] are added to those of queries and keys."""

    def __init__(self, config: T5Config, *, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.attention_head_dim
        heads = config.num_heads * self.head_dim
        self.qkv = Linear(config.hidden_size, 3 * heads, bias=False)
        self.output = Linear(heads, config.hidden_size, bias=False)

    def forward(self, x: Tensor, scores: Tensor, cache: KVCache | None = None) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [B, T, 3H, D]
        query, key, value = qkv.chunk(3, dim=2)  # [B, T, H, D] each
        if cache is not None:
            key, value = cache.store(self.layer, key=key, value=value)  # [B, S, H, D]
        out: Tensor = self.output(full_attention(query, key=key, value=value, mask=scores, scale=1.0))
        return out


class CrossAttention(nn.Module):
    """x [B, T, C] over memory [B, S, C] -> [B, T, C]."""

    def __init__(self, config: T5Config, *, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.attention_head_dim
        heads = config.num_heads * self.head_dim
        self.query = Linear(config.hidden_size, heads, bias=False)
        self.key_value = Linear(config.hidden_size, 2 * heads, bias=False)
        self.output = Linear(heads, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None, cache: SourceCache | None = None
    ) -> Tensor:
        query = self.query(x).unflatten(-1, (-1, self.head_dim))  # [B, T, H, D]
        key, value = self.split(memory) if cache is None else cache.of_layer(self.layer, self.split)
        out: Tensor = self.output(full_attention(query, key=key, value=value, mask=mask, scale=1.0))
        return out

    def split(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value, [B, S, H, D] each."""
        key, value = self.key_value(memory).unflatten(-1, (-1, self.head_dim)).chunk(2, dim=2)
        return key, value


class ReluMLP(nn.Module):
    """Of version 1: x [B, T, C] -> [B, T, F] -> [B, T, C]."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.up = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.relu(self.up(x)))
        return out


class GatedMLP(nn.Module):
    """Of version 1.1, with the tanh approximation of GELU: x [B, T, C] -> [B, T, C]."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.gate_up = Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # [B, T, F] each
        out: Tensor = self.down(F.gelu(gate, approximate="tanh") * up)
        return out


class EncoderBlock(nn.Module):
    """Two residual steps: attention, then the MLP, each on a normalised copy of the stream."""

    def __init__(self, config: T5Config, *, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.attention = SelfAttention(config, layer=layer)
        self.mlp_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = GatedMLP(config) if config.gated_mlp else ReluMLP(config)

    def forward(self, x: Tensor, scores: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), scores)  # [B, S, C]
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class DecoderBlock(nn.Module):
    """Three residual steps: attention to the target so far, to the source, then the MLP."""

    def __init__(self, config: T5Config, *, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.attention = SelfAttention(config, layer=layer)
        self.cross_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.cross = CrossAttention(config, layer=layer)
        self.mlp_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = GatedMLP(config) if config.gated_mlp else ReluMLP(config)

    def forward(
        self,
        x: Tensor,
        scores: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        cache: SourceCache | None = None,
    ) -> Tensor:
        own = None if cache is None else cache.target
        x = x + self.attention(self.attention_norm(x), scores, own)  # [B, T, C]
        x = x + self.cross(self.cross_norm(x), memory, mask, cache)
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class T5(EncoderDecoder):
    """The whole model; see `EncoderDecoder` for its methods."""

    config: T5Config

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.embedding = Embedding(self.vocab_size, config.hidden_size)
        self.encoder_positions = RelativePositions(config, both_ways=True)
        self.encoder_blocks = nn.ModuleList(
            EncoderBlock(config, layer=layer) for layer in range(config.num_layers)
        )
        self.encoder_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.positions = RelativePositions(config, both_ways=False)
        self.blocks = nn.ModuleList(
            DecoderBlock(config, layer=layer) for layer in range(config.decoder_layers)
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.lm_head = VocabularyHead(config.hidden_size, self.vocab_size)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """The authors': N(0, 1 / sqrt(inputs)), queries smaller by sqrt(D), and embeddings N(0, 1)."""
        self.tie_weights()
        width, head_dim = self.config.hidden_size, self.config.attention_head_dim
        heads = self.config.num_heads * head_dim
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:  # the norms
                nn.init.ones_(parameter)
                continue
            inputs = 1 if name == "embedding.weight" else width if "table" in name else parameter.shape[1]
            nn.init.normal_(parameter, std=inputs**-0.5, generator=generator)
            if name.endswith(("qkv.weight", "query.weight")):
                parameter[:heads] *= head_dim**-0.5

    def encode(
        self, input_ids: Tensor, *, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        x = self.embedding(input_ids)  # [B, S, C]
        scores = self.encoder_positions(x.shape[1], x.shape[1]).to(x.dtype)  # [1, H, S, S]
        mask = full_mask(attention_mask, document_ids, document_ids)
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)  # [B, H, S, S]
        for block in self.encoder_blocks:
            x = self.through(block, x, scores)
        return torch.as_tensor(self.encoder_norm(x))

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
        x = self.embedding(decoder_input_ids)  # [B, T, C]
        num_tokens, num_before = x.shape[1], 0 if cache is None else cache.length
        scores = self.positions(num_tokens, num_before + num_tokens).to(x.dtype)  # [1, H, T, S]
        if num_before == 0:
            documents = decoder_document_ids
            if documents is None:
                documents = torch.zeros_like(decoder_input_ids[:1])  # [1, T]
            scores = scores.masked_fill(~document_mask(documents), -math.inf)
        assert num_before == 0 or num_tokens == 1, "behind others, one token at a time"
        mask = full_mask(attention_mask, decoder_document_ids, document_ids)
        for block in self.blocks:
            x = self.through(block, x, scores, memory, mask, cache)
        if cache is not None:
            cache.advance(num_tokens)
        x = self.norm(x)
        return torch.as_tensor(x * self.config.hidden_size**-0.5 if self.config.tie_embeddings else x)
