"""The KV cache of generation: keys and values of every layer, allocated once, filled from the left.

Letters: L layers, B batch, T time of the new tokens, S time of all tokens so far, K key-value heads, D head dim.
"""

import torch
from torch import Tensor

from model.config import ModelConfig


class KVCache:
    """Keys and values [L, B, capacity, K, D]. Prompts of uneven length are padded on the left.

    `num_padding` [B] counts the padding at the start of each row: it is never attended to, and positions count from
    the first real token. A forward pass stores its layers' keys and values, and then calls `advance` once.
    """

    def __init__(
        self, config: ModelConfig, *, num_padding: Tensor, capacity: int, dtype: torch.dtype = torch.float32
    ) -> None:
        shape = (len(num_padding), capacity, config.attention_kv_heads, config.attention_head_dim)
        self.keys = torch.empty((config.num_layers, *shape), dtype=dtype, device=num_padding.device)
        self.values = torch.empty_like(self.keys)
        self.num_padding = num_padding
        self.padded = bool(num_padding.any())
        self.length = 0  # columns filled so far, padding included
        self.max_position = config.max_seq_len - 1

    def store(self, layer: int, *, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add key and value [B, T, K, D] of the new tokens; returns those of all tokens so far [B, S, K, D]."""
        end = self.length + key.shape[1]
        self.keys[layer, :, self.length : end] = key
        self.values[layer, :, self.length : end] = value
        return self.keys[layer, :, :end], self.values[layer, :, :end]

    def advance(self, num_tokens: int) -> None:
        self.length += num_tokens

    def position_ids(self, num_tokens: int) -> Tensor:
        """[B, T] positions of the next tokens, counted without padding (which, never attended to, reads as 0).

        A row that was full and goes on only because others in its batch do stays at the last position.
        """
        columns = torch.arange(self.length, self.length + num_tokens, device=self.num_padding.device)
        return (columns - self.num_padding[:, None]).clamp(0, self.max_position)

    def mask(self, num_tokens: int) -> Tensor | None:
        """Bool [B, 1, T, S] for the next tokens; None where `attention` needs none."""
        if not self.padded and (self.length == 0 or num_tokens == 1):
            return None
        end = self.length + num_tokens
        keys = torch.arange(end, device=self.num_padding.device)  # [S]
        queries = keys[self.length :, None]  # [T, 1]
        real = keys >= self.num_padding[:, None, None]  # [B, 1, S]
        # a padding query sees itself, since a softmax over nothing is NaN
        return ((keys <= queries) & real | (keys == queries))[:, None]
