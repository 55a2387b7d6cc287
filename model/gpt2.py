"""GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

- norm before each sublayer (LayerNorm with bias) and one more after the last block
- learned absolute positions, added to the token embedding
- MLP of four times the width with the tanh approximation of GELU
- vocabulary head tied to the embedding

Deviations: no dropout (the paper has 0.1): a corpus seen about once does not overfit, and a run without it is
reproducible whatever its world size. The published model keeps its projections transposed; `model.hf` turns them.

Letters: B batch, T time, C hidden, H heads, D head dim, F intermediate, V vocab.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import KVCache
from model.config import GPT2Config
from model.decoder import Decoder
from model.layers import Embedding, Linear, attention
from model.masks import Mask


class Attention(nn.Module):
    """Multi-head self-attention: x [B, T, C] -> [B, T, C]."""

    def __init__(self, config: GPT2Config, *, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.attention_head_dim
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Mask | None, cache: KVCache | None) -> Tensor:
        query, key, value = (
            self.qkv(x).unflatten(-1, (-1, self.head_dim)).chunk(3, dim=2)
        )  # [B, T, H, D] each
        if cache is not None:
            key, value = cache.store(self.layer, key=key, value=value)  # [B, S, H, D]
        out: Tensor = self.output(attention(query, key=key, value=value, mask=mask))
        return out


class MLP(nn.Module):
    """x [B, T, C] -> [B, T, F] -> [B, T, C]."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.up = Linear(config.hidden_size, config.intermediate_size)
        self.down = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """Two residual steps: attention, then the MLP, each on a normalised copy of the stream."""

    def __init__(self, config: GPT2Config, *, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.attention = Attention(config, layer=layer)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, mask: Mask | None, cache: KVCache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask, cache)  # [B, T, C]
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class GPT2(Decoder):
    """The whole model; see `Decoder` for its methods."""

    config: GPT2Config

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.embedding = Embedding(self.vocab_size, config.hidden_size)
        self.position_embedding = Embedding(config.max_seq_len, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer=layer) for layer in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.add_head()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """N(0, 0.02), biases 0; what writes into the stream is divided by sqrt(2 * num_layers) (section 2.3)."""
        self.tie_weights()
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:  # the norms
                nn.init.ones_(parameter)
            else:
                into_stream = name.endswith(("attention.output.weight", "mlp.down.weight"))
                std = 0.02 / math.sqrt(2 * self.config.num_layers) if into_stream else 0.02
                nn.init.normal_(parameter, std=std, generator=generator)

    def hidden(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        num_tokens = input_ids.shape[1]
        mask: Mask | None
        if cache is not None:
            position_ids, mask = cache.position_ids(num_tokens), cache.mask(num_tokens)
        else:
            mask = self.mask(input_ids, document_ids, prefix_mask)
            if position_ids is None:
                position_ids = torch.arange(
                    num_tokens, device=input_ids.device
                )  # [T], the same for every row
        x = self.embedding(input_ids) + self.position_embedding(position_ids)  # [B, T, C]
        for block in self.blocks:
            x = self.through(block, x, mask, cache)
        if cache is not None:
            cache.advance(num_tokens)
        return torch.as_tensor(self.norm(x))  # [B, T, C]
