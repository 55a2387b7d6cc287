"""Encoder-decoders: the first Transformer, and T5. Torch-free."""

from dataclasses import dataclass
from typing import ClassVar

from model.config.base import AttentionConfig, Problem, Size


@dataclass
class TransformerConfig(AttentionConfig):
    """The encoder-decoder of Vaswani et al. 2017. The defaults are the paper's base model's."""

    architecture: str = "transformer"
    "Always transformer."
    hidden_size: int = 512
    "Width of the residual stream; a multiple of num_heads, and even."
    intermediate_size: int = 2048
    "Width inside the MLP; >= 1."
    num_layers: int = 6
    "Blocks of the encoder, and as many of the decoder; >= 1."
    num_heads: int = 8
    "Heads of each attention; >= 1."
    max_seq_len: int = 512
    "Longest source and longest target, in tokens; >= 1."

    is_causal: ClassVar[bool] = False

    def size(self) -> Size:
        width, inner = self.hidden_size, self.intermediate_size
        attention = 4 * width * width + 4 * width
        mlp = 2 * width * inner + inner + width
        norm = 2 * width
        keys_and_values = self.num_layers * (2 * width * width + 2 * width)  # of the source, for the decoder
        return Size(
            lookups=0 if self.tie_embeddings else self.embedding_size(),
            blocks=self.num_layers * (2 * attention + mlp + 3 * norm) - keys_and_values,
            rest=self.embedding_size(),
            attention=self.num_layers * width,
            source=self.num_layers * (attention + mlp + 2 * norm) + keys_and_values,
            source_attention=self.num_layers * width,
            cross_attention=self.num_layers * width,
        )

    def problems(self) -> list[Problem]:
        found = super().problems()
        if self.hidden_size % 2:
            what = f"hidden_size {self.hidden_size} is odd, and positions are pairs of a sine and a cosine"
            found.append(
                Problem("hidden_size", what, "an even number", f"for example {self.hidden_size + 1}")
            )
        return found


@dataclass
class T5Config(AttentionConfig):
    """T5 (Raffel et al. 2019). The defaults are the published small model's, version 1.

    Version 1.1 has gated_mlp true and tie_embeddings false.
    """

    architecture: str = "t5"
    "Always t5."
    hidden_size: int = 512
    "Width of the residual stream; >= 1."
    intermediate_size: int = 2048
    "Width inside the MLP; >= 1."
    num_layers: int = 6
    "Blocks of the encoder; >= 1."
    num_decoder_layers: int | None = None
    "Blocks of the decoder; None: num_layers."
    num_heads: int = 8
    "Heads of each attention; >= 1."
    head_dim: int = 64
    "Width of one head; >= 1, whatever hidden_size is."
    max_seq_len: int = 512
    "Longest source and longest target, in tokens; >= 1."
    norm_eps: float = 1e-6
    "Added to the mean square in each norm; > 0."
    tie_embeddings: bool = True
    "Whether the vocabulary head is the embedding matrix itself, behind hidden states divided by sqrt(hidden_size)."
    gated_mlp: bool = False
    "Whether the MLP is gated, with GELU, as in version 1.1; else it has ReLU."
    relative_buckets: int = 32
    "Buckets of distances; even, >= 4."
    relative_distance: int = 128
    "Distance from which on all are one bucket, in tokens; > relative_buckets / 2."

    is_causal: ClassVar[bool] = False

    @property
    def attention_head_dim(self) -> int:
        return self.head_dim

    @property
    def decoder_layers(self) -> int:
        """Blocks of the decoder."""
        return self.num_decoder_layers or self.num_layers

    def size(self) -> Size:
        width, heads = self.hidden_size, self.num_heads * self.head_dim
        attention = 4 * width * heads
        mlp = (3 if self.gated_mlp else 2) * width * self.intermediate_size
        keys_and_values = self.decoder_layers * 2 * width * heads  # of the source, for the decoder
        blocks = self.decoder_layers * (2 * attention + mlp + 3 * width) - keys_and_values
        tables = 2 * self.relative_buckets * self.num_heads
        return Size(
            lookups=tables + (0 if self.tie_embeddings else self.embedding_size()),
            blocks=blocks,
            rest=width + self.embedding_size(),
            attention=self.decoder_layers * heads,
            source=self.num_layers * (attention + mlp + 2 * width) + width + keys_and_values,
            source_attention=self.num_layers * heads,
            cross_attention=self.decoder_layers * heads,
        )

    def problems(self) -> list[Problem]:
        found = super().problems()
        if self.relative_buckets % 2 or 0 < self.relative_buckets < 4:  # noqa: PLR2004
            what = f"{self.relative_buckets} buckets cannot be halved twice, by direction and by size"
            found.append(Problem("relative_buckets", what, "an even number >= 4", "for example 32"))
        elif 0 < self.relative_distance <= self.relative_buckets // 2:
            what = f"relative_distance {self.relative_distance} lies within the buckets of exact distances"
            allowed = f"more than {self.relative_buckets // 2}"
            found.append(Problem("relative_distance", what, allowed, "for example 128"))
        return found

    def _indivisible(self) -> list[Problem]:
        return []  # heads have a width of their own
