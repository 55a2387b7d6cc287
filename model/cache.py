"""What generation keeps of what has been read: keys and values or states of every layer, and of a source.

Letters: L layers, B batch, T time of the new tokens, S time of all tokens so far, K key-value heads, D head dim.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from model.config import ModelConfig
from model.masks import window_mask


class Cache(Protocol):
    """What every kind of model has in its own way; a forward pass adds to it."""

    @property
    def length(self) -> int:
        """Columns read so far, padding included."""

    def advance(self, num_tokens: int) -> None:
        """So many more columns are read."""

    def repeat(self, times: int) -> None:
        """Each row `times` times, one behind the other: copies of a prompt, which go on apart."""

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on as rows[i] [B] did; the two are copies of one prompt."""


class KVCache:
    """Keys and values [L, B, capacity, K, D]. Prompts of uneven length are padded on the left.

    `num_padding` [B] counts the padding at the start of each row: it is never attended to, and positions count from
    the first real token. A forward pass stores its layers' keys and values, and then calls `advance` once. Where it
    `reads_whole`, the tokens of the first pass, which are the prompt, all see each other.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        num_padding: Tensor,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        reads_whole: bool = False,
    ) -> None:
        shape = (len(num_padding), capacity, config.attention_kv_heads, config.attention_head_dim)
        self.keys = torch.empty((config.decoder_layers, *shape), dtype=dtype, device=num_padding.device)
        self.values = torch.empty_like(self.keys)
        self.num_padding = num_padding
        self.padded, self.reads_whole = bool(num_padding.any()), reads_whole
        self.length = 0  # columns filled so far, padding included
        self.num_alike = 0  # columns at the start that copies of a prompt have in common
        self.max_position = config.max_seq_len - 1
        self.tables: tuple[Tensor, ...] = ()
        "What a model looks up by position, one row for each, and keeps here; empty until then."

    @property
    def num_positions(self) -> int:
        """Positions that its tokens may have: 0 to one less."""
        return min(self.keys.shape[2], self.max_position + 1)

    def store(self, layer: int, *, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add key and value [B, T, K, D] of the new tokens; returns those of all tokens so far [B, S, K, D]."""
        end = self.length + key.shape[1]
        self.keys[layer, :, self.length : end] = key
        self.values[layer, :, self.length : end] = value
        return self.keys[layer, :, :end], self.values[layer, :, :end]

    def advance(self, num_tokens: int) -> None:
        self.length += num_tokens

    def repeat(self, times: int) -> None:
        self.num_padding = self.num_padding.repeat_interleave(times)
        self.num_alike = self.length
        self.keys, self.values = (
            self._repeated(self.keys, times),
            self._repeated(self.values, times),
        )

    def reorder(self, rows: Tensor) -> None:
        for kept in (self.keys, self.values):
            apart = kept[:, :, self.num_alike : self.length]
            apart.copy_(apart[:, rows])

    def position_ids(self, num_tokens: int) -> Tensor:
        """[B or 1, T] positions of the next tokens, counted without padding (which, never attended to, reads as 0).

        A row that was full and goes on only because others in its batch do stays at the last position.
        """
        columns = torch.arange(self.length, self.length + num_tokens, device=self.num_padding.device)
        if not self.padded:
            return columns[None]
        return (columns - self.num_padding[:, None]).clamp(0, self.max_position)

    def mask(self, num_tokens: int, *, window: int | None = None) -> Tensor | None:
        """Bool [B, 1, T, S] for the next tokens, which see the last `window`; None where `attention` needs none."""
        mask = self._mask(num_tokens)
        if window is None:
            return mask
        return window_mask(
            mask,
            window=window,
            num_queries=num_tokens,
            num_keys=self.length + num_tokens,
            device=self.num_padding.device,
        )

    def _mask(self, num_tokens: int) -> Tensor | None:
        is_prefix = self.reads_whole and self.length == 0 and num_tokens > 1
        if not self.padded and not is_prefix and (self.length == 0 or num_tokens == 1):
            return None
        end = self.length + num_tokens
        keys = torch.arange(end, device=self.num_padding.device)  # [S]
        queries = keys[self.length :, None]  # [T, 1]
        real = keys >= self.num_padding[:, None, None]  # [B, 1, S]
        seen = real.expand(-1, end, -1) if is_prefix else (keys <= queries) & real
        # a padding query sees itself, since a softmax over nothing is NaN
        return (seen | (keys == queries))[:, None]

    def _repeated(self, kept: Tensor, times: int) -> Tensor:
        num_layers, num_rows, *shape = kept.shape
        new = kept.new_empty(num_layers, num_rows * times, *shape)
        new[:, :, : self.length] = kept[:, :, : self.length].repeat_interleave(times, dim=1)
        return new


class RecurrentCache:
    """The state of every layer behind what has been read: what generation keeps, however long the text.

    `num_padding` [B] counts the padding at the start of each row of the first tokens, which is not read.
    """

    def __init__(self, num_layers: int, *, num_padding: Tensor) -> None:
        self.num_padding = num_padding
        self.states: list[Any] = [None] * num_layers
        self.length = 0  # columns read so far, padding included

    def advance(self, num_tokens: int) -> None:
        self.length += num_tokens

    def repeat(self, times: int) -> None:
        self._each(lambda state: state.repeat_interleave(times, dim=1))
        self.num_padding = self.num_padding.repeat_interleave(times)

    def reorder(self, rows: Tensor) -> None:
        self._each(lambda state: state[:, rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> None:
        """An LSTM's state is two tensors [1, B, C], the others' one."""
        self.states = [
            tuple(map(change, state)) if isinstance(state, tuple) else change(state) for state in self.states
        ]

    def is_real(self, num_tokens: int) -> Tensor | None:
        """Bool [B, T] of the next tokens; None where none of them is padding."""
        if self.length > 0 or not bool(self.num_padding.any()):
            return None
        columns = torch.arange(num_tokens, device=self.num_padding.device)
        return columns >= self.num_padding[:, None]


class SourceCache:
    """Of an encoder-decoder: the source, each layer's keys and values of it, and what is kept of the target."""

    def __init__(self, memory: Tensor, *, attention_mask: Tensor | None, target: Any) -> None:
        """Args: `memory` [B, S, C] with its mask [B, S], None without padding; `target`: the decoder's own cache."""
        self.memory, self.attention_mask, self.target = memory, attention_mask, target
        self.keys_and_values: dict[int, tuple[Tensor, Tensor]] = {}
        "[B, S, H, D] each, by layer: computed when a layer is first run."

    def of_layer(self, layer: int, split: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Key and value of the source, which `split` makes of it once."""
        if layer not in self.keys_and_values:
            self.keys_and_values[layer] = split(self.memory)
        return self.keys_and_values[layer]

    @property
    def length(self) -> int:
        """Tokens of the target read so far."""
        return int(self.target.length)

    def advance(self, num_tokens: int) -> None:
        self.target.advance(num_tokens)

    def repeat(self, times: int) -> None:
        self.memory = self.memory.repeat_interleave(times, dim=0)
        if self.attention_mask is not None:
            self.attention_mask = self.attention_mask.repeat_interleave(times, dim=0)
        self.keys_and_values = {
            layer: (key.repeat_interleave(times, dim=0), value.repeat_interleave(times, dim=0))
            for layer, (key, value) in self.keys_and_values.items()
        }
        self.target.repeat(times)

    def reorder(self, rows: Tensor) -> None:
        """Copies of a prompt have one source."""
        self.target.reorder(rows)
