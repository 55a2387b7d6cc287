"""Recurrent networks: as language model, as encoder, and as encoder-decoder with attention. Torch-free."""

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from model.config.base import ADDED_LATER, ModelConfig, Problem, Size, text_head_size


class Cell(Enum):
    """How a step goes from the last state and a token to the next state."""

    lstm = "lstm"
    gru = "gru"
    vanilla = "vanilla"

    @property
    def num_gates(self) -> int:
        """Rows of blocks in each of a cell's matrices."""
        return {"lstm": 4, "gru": 3, "vanilla": 1}[self.name]


@dataclass
class RnnConfig(ModelConfig):
    """A recurrent language model. The defaults are the large LSTM of Zaremba et al. 2014, at one width."""

    architecture: str = "rnn"
    "Always rnn."
    hidden_size: int = 1500
    "Width of the embedding and of each layer's state; >= 1."
    num_layers: int = 2
    "Recurrent layers, one above the other; >= 1."
    max_seq_len: int = 1024
    "Longest sequence that training and generation take, in tokens, which the model itself does not limit; >= 1."
    cell: Cell = Cell.lstm
    "lstm (Hochreiter and Schmidhuber 1997), gru (Cho et al. 2014), or vanilla (Elman 1990)."

    def size(self) -> Size:
        return Size(
            lookups=0 if self.tie_embeddings else self.embedding_size(),
            blocks=self.num_layers * self._layer(self.hidden_size),
            rest=self.embedding_size(),
        )

    def _layer(self, width: int) -> int:
        """Of a layer with a state of `width`: matrices of the input and of the last state, each with a bias."""
        return self.cell.num_gates * width * (self.hidden_size + width + 2)


@dataclass
class RnnEncoderConfig(RnnConfig):
    """A recurrent encoder that reads in both directions, to tell classes apart or to predict masked tokens."""

    architecture: str = "rnn_encoder"
    "Always rnn_encoder."
    hidden_size: int = 512
    "Width of the embedding, and of the states of both directions together; even."
    masked_lm_head: bool = field(default=False, metadata=ADDED_LATER)
    "Whether there is a head that predicts masked tokens."
    classes: list[str] = field(default_factory=list, metadata=ADDED_LATER)
    "What a head for whole texts tells apart, in the order of its outputs; empty: there is no such head."

    is_causal: ClassVar[bool] = False

    @property
    def has_lm_head(self) -> bool:
        return self.masked_lm_head

    def size(self) -> Size:
        layers = self.num_layers * 2 * self._layer(self.hidden_size // 2)
        head = self.embedding_size() if self.masked_lm_head else 0
        tables = 0 if head and self.tie_embeddings else self.embedding_size()
        return Size(lookups=tables + text_head_size(self), blocks=layers, rest=head)

    def problems(self) -> list[Problem]:
        return super().problems() + odd_width(self)


@dataclass
class RnnSeq2SeqConfig(RnnConfig):
    """A recurrent encoder-decoder with attention. The defaults are those of Luong et al. 2015, without dropout."""

    architecture: str = "rnn_seq2seq"
    "Always rnn_seq2seq."
    hidden_size: int = 1000
    "Width of the embeddings, of the states of the decoder, and of both directions of the encoder together; even."
    num_layers: int = 4
    "Recurrent layers of the encoder, and as many of the decoder; >= 1."

    is_causal: ClassVar[bool] = False

    def size(self) -> Size:
        width = self.hidden_size
        begin = self.num_layers * (width // 2 * width + width)  # once in a text: no token multiplies it
        attention = width * width + 2 * width * width  # W_a and W_c
        return Size(
            lookups=begin + (0 if self.tie_embeddings else self.embedding_size()),
            blocks=self.num_layers * self._layer(width) + attention,
            rest=self.embedding_size(),
            source=self.num_layers * 2 * self._layer(width // 2),
            cross_attention=width,
        )

    def problems(self) -> list[Problem]:
        return super().problems() + odd_width(self)


def odd_width(config: RnnConfig) -> list[Problem]:
    """What is wrong with a width that two directions share."""
    if config.hidden_size % 2 == 0:
        return []
    what = f"hidden_size {config.hidden_size} cannot be shared by two directions"
    return [Problem("hidden_size", what, "an even number", f"for example {config.hidden_size + 1}")]
