"""The head that says of a text what it is.

Letters: B batch, T time, C hidden, K outputs.
"""

from enum import Enum

import torch
from torch import Tensor, nn

from model.config import BertConfig, ModelConfig, classes_of
from model.layers import Linear


class Pooling(Enum):
    """Which hidden states stand for a text."""

    first = "first"
    mean = "mean"
    last = "last"


class TextHead(nn.Module):
    """Hidden states [B, T, C] -> one for each text -> tanh(W x) -> [B, K], as BERT's pooler and classifier.

    Of the last hidden state, which a decoder has normed and which has seen all, one matrix, as in transformers. The
    weights are there once `init_weights` was called.
    """

    def __init__(self, hidden_size: int, num_outputs: int, *, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling
        is_last = pooling is Pooling.last
        self.dense = None if is_last else Linear(hidden_size, hidden_size)
        self.output = Linear(hidden_size, num_outputs, bias=not is_last)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """N(0, 0.02), biases 0."""
        for layer in filter(None, (self.dense, self.output)):
            nn.init.normal_(layer.weight, std=0.02, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        real = (
            hidden.new_ones(hidden.shape[:2]) if attention_mask is None else attention_mask.to(hidden.dtype)
        )
        x = pooled(hidden, real, self.pooling)  # [B, C]
        if self.dense is not None:
            x = torch.tanh(self.dense(x))
        return torch.as_tensor(self.output(x))


def text_head(config: ModelConfig) -> TextHead:
    """The head of a model with classes: BERT's first token has learned to stand for its text, in other encoders all do.

    In a decoder the last token alone has seen the text.
    """
    pooling = Pooling.last if config.is_causal else Pooling.mean
    pooling = Pooling.first if isinstance(config, BertConfig) else pooling
    return TextHead(config.hidden_size, len(classes_of(config)), pooling=pooling)


def pooled(hidden: Tensor, real: Tensor, pooling: Pooling) -> Tensor:
    """What stands for each text, [B, C], of hidden [B, T, C]; real [B, T], 1 for tokens and 0 for padding."""
    if pooling is Pooling.mean:
        return (hidden * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1)
    columns = torch.arange(1, real.shape[1] + 1, device=real.device)
    place = (real * (columns if pooling is Pooling.last else columns.flip(0))).argmax(dim=1)  # [B]
    return hidden[torch.arange(len(hidden), device=hidden.device), place]
