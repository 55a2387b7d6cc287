"""LLaMA: Touvron et al. 2023, https://arxiv.org/abs/2302.13971; with the grouped-query attention of LLaMA 2 and 3.

- norm before each sublayer: RMSNorm, no biases
- rotary position embedding, rotate-half layout (RoFormer, https://arxiv.org/abs/2104.09864)
- gated MLP: down(silu(gate(x)) * up(x)) (SwiGLU, https://arxiv.org/abs/2002.05202)
- grouped-query attention: num_kv_heads < num_heads (https://arxiv.org/abs/2305.13245)

The same mathematics with other settings of `LlamaConfig`: Qwen 2 has biases of queries, keys and values; Qwen 3 norms
queries and keys, each head by itself; Mistral (https://arxiv.org/abs/2310.06825) lets a token see a window of those
before it; LLaMA 3.1 and others stretch the rotary wavelengths (`model.rotary`).

Deviations: one matrix holds query, key and value and one holds gate and up, since few large products are faster than
many small ones; `model.hf` splits and joins them. No dropout (nor has the paper).

Letters: B batch, T time, C hidden, H query heads, K key-value heads, D head dim, F intermediate, V vocab.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import KVCache
from model.config import LlamaConfig, RopeKind
from model.decoder import Decoder
from model.layers import Embedding, Linear, RMSNorm, attention
from model.masks import Mask
from model.rotary import rotary_angles, rotate


class Attention(nn.Module):
    """Grouped-query attention with rotary positions: x [B, T, C] -> [B, T, C]."""

    def __init__(self, config: LlamaConfig, *, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim = config.attention_head_dim
        self.qkv = Linear(
            config.hidden_size, (self.num_heads + 2 * self.num_kv_heads) * self.head_dim, bias=config.qkv_bias
        )
        self.query_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else None
        self.key_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else None
        self.output = Linear(self.num_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask | None, cache: KVCache | None
    ) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (-1, self.head_dim))  # [B, T, H+2K, D]
        turned, value = qkv.split_with_sizes((self.num_heads + self.num_kv_heads, self.num_kv_heads), dim=2)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = turned.split_with_sizes((self.num_heads, self.num_kv_heads), dim=2)
            turned = torch.cat((self.query_norm(query), self.key_norm(key)), dim=2)
        turned = rotate(turned, cos=cos, sin=sin)  # queries and keys in one pass: [B, T, H+K, D]
        query, key = turned.split_with_sizes((self.num_heads, self.num_kv_heads), dim=2)
        if cache is not None:
            key, value = cache.store(self.layer, key=key, value=value)  # [B, S, K, D]
        out: Tensor = self.output(attention(query, key=key, value=value, mask=mask))
        return out


class MLP(nn.Module):
    """SwiGLU: x [B, T, C] -> [B, T, C]."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_up = Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # [B, T, F] each
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """Two residual steps: attention, then the MLP, each on a normalised copy of the stream."""

    def __init__(self, config: LlamaConfig, *, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.attention = Attention(config, layer=layer)
        self.mlp_norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask | None, cache: KVCache | None
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask, cache)  # [B, T, C]
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class Llama(Decoder):
    """The whole model; see `Decoder` for its methods."""

    config: LlamaConfig

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.embedding = Embedding(self.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer=layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.add_head()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """N(0, 0.02) as in GPT-2; what writes into the stream is divided by sqrt(2 * num_layers).

        The LLaMA paper gives no initialisation. This keeps the stream's variance independent of depth.
        """
        self.tie_weights()
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:  # biases and norms
                (nn.init.zeros_ if name.endswith("bias") else nn.init.ones_)(parameter)
                continue
            into_stream = name.endswith(("attention.output.weight", "mlp.down.weight"))
            std = 0.02 / math.sqrt(2 * self.config.num_layers) if into_stream else 0.02
            nn.init.normal_(parameter, std=std, generator=generator)

    def angles(self, position_ids: Tensor, cache: KVCache | None, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Cosines and sines [.., T, 1, D/2]; of a cache, looked up in tables that its first tokens make."""
        scaling = self.config.rope_scaling
        of = partial(
            rotary_angles,
            head_dim=self.config.attention_head_dim,
            theta=self.config.rope_theta,
            scaling=scaling,
        )
        if cache is None or scaling.kind is RopeKind.dynamic:  # whose angles change with the length
            return tuple(table.to(dtype) for table in of(position_ids))
        if not cache.tables:
            every = torch.arange(cache.num_positions, device=position_ids.device)
            cache.tables = tuple(table.to(dtype) for table in of(every))
        return tuple(table[position_ids] for table in cache.tables)

    def hidden(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        num_tokens, window = input_ids.shape[1], self.config.sliding_window
        mask: Mask | None
        if cache is not None:
            position_ids, mask = cache.position_ids(num_tokens), cache.mask(num_tokens, window=window)
        else:
            mask = self.mask(input_ids, document_ids, prefix_mask, window=window)
            if position_ids is None:
                position_ids = torch.arange(
                    num_tokens, device=input_ids.device
                )  # [T], the same for every row
        x = self.embedding(input_ids)  # [B, T, C]
        cos, sin = self.angles(position_ids, cache, x.dtype)
        for block in self.blocks:
            x = self.through(block, x, cos, sin, mask, cache)
        if cache is not None:
            cache.advance(num_tokens)
        return torch.as_tensor(self.norm(x))  # [B, T, C]
