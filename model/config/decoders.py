"""Decoders: GPT-2 and LLaMA. Torch-free."""

from dataclasses import dataclass, field
from enum import Enum

from model.config.base import ADDED_LATER, DecoderConfig, Problem, Size


@dataclass
class GPT2Config(DecoderConfig):
    """GPT-2 (Radford et al. 2019). The defaults are the published 124M model's."""

    architecture: str = "gpt2"
    "Always gpt2."

    def size(self) -> Size:
        width, inner = self.hidden_size, self.intermediate_size
        attention = 4 * width * width + 4 * width  # query, key, value, output; each with a bias
        mlp = 2 * width * inner + inner + width
        norms = 2 * 2 * width  # weight and bias
        lookups, head = self.ends()
        return Size(
            lookups=self.max_seq_len * width + lookups,
            blocks=self.num_layers * (attention + mlp + norms),
            rest=2 * width + head,
            attention=self.num_layers * width,
        )


class RopeKind(Enum):
    """How rotary wavelengths are stretched for sequences longer than a model was trained on."""

    none = "none"
    linear = "linear"
    dynamic = "dynamic"
    yarn = "yarn"
    llama3 = "llama3"


@dataclass
class RopeScaling:
    """Stretched rotary wavelengths; see `model.rotary` for the papers."""

    kind: RopeKind = RopeKind.none
    "none; linear: all by the factor; dynamic: as far as a sequence asks; yarn and llama3: the long ones by the factor."
    factor: float = 1.0
    "By how much; >= 1."
    trained_seq_len: int | None = None
    "Longest sequence before stretching, in tokens; dynamic, yarn and llama3 need it."
    low_frequency: float = 1.0
    "llama3: wavelengths of which fewer fit into trained_seq_len are stretched by all of the factor; > 0."
    high_frequency: float = 4.0
    "llama3: wavelengths of which more fit into trained_seq_len stay; > low_frequency."
    beta_slow: float = 1.0
    "yarn: as low_frequency; > 0."
    beta_fast: float = 32.0
    "yarn: as high_frequency; > beta_slow."

    def problems(self) -> list[Problem]:
        """Everything wrong with these values, under their dotted names."""
        found = []
        if self.factor < 1:
            what = f"a factor of {self.factor} would shorten the context"
            found.append(Problem("rope_scaling.factor", what, "a number >= 1", "for example 4"))
        needs_length = self.kind not in (RopeKind.none, RopeKind.linear)
        if needs_length and not (self.trained_seq_len and self.trained_seq_len > 0):
            what = f"{self.kind.name} starts from a length, and trained_seq_len is {self.trained_seq_len}"
            do = "set the length that the weights were trained on"
            found.append(Problem("rope_scaling.trained_seq_len", what, "tokens, >= 1", do))
        for low, high in (("low_frequency", "high_frequency"), ("beta_slow", "beta_fast")):
            if not 0 < getattr(self, low) < getattr(self, high):
                what = f"{low} {getattr(self, low)} and {high} {getattr(self, high)} make no range"
                found.append(
                    Problem(f"rope_scaling.{low}", what, f"0 < {low} < {high}", f"set {low} below {high}")
                )
        return found


@dataclass
class LlamaConfig(DecoderConfig):
    """LLaMA (Touvron et al. 2023), with grouped-query attention. The defaults are the published 7B model's."""

    architecture: str = "llama"
    "Always llama."
    hidden_size: int = 4096
    "Width of the residual stream; a multiple of num_heads."
    intermediate_size: int = 11008
    "Width inside the gated MLP; >= 1."
    num_layers: int = 32
    "Blocks; >= 1."
    num_heads: int = 32
    "Query heads of each attention; a multiple of num_kv_heads."
    max_seq_len: int = 2048
    "Longest sequence, in tokens; >= 1."
    tie_embeddings: bool = False
    "Whether the vocabulary head is the embedding matrix itself."
    num_kv_heads: int = 32
    "Heads of keys and values, each shared by num_heads / num_kv_heads query heads; 1: multi-query attention."
    head_dim: int | None = None
    "Width of one head, even; None: hidden_size / num_heads."
    rope_theta: float = 10000.0
    "Base of the rotary wavelengths, which run from 2 pi to 2 pi rope_theta positions; > 0."
    rope_scaling: RopeScaling = field(default_factory=RopeScaling, metadata=ADDED_LATER)
    "How the wavelengths are stretched for longer contexts."
    qkv_bias: bool = field(default=False, metadata=ADDED_LATER)
    "Whether queries, keys and values have biases, as in Qwen 2."
    qk_norm: bool = field(default=False, metadata=ADDED_LATER)
    "Whether the queries and the keys of each head are normed before they are turned, as in Qwen 3."
    sliding_window: int | None = field(default=None, metadata=ADDED_LATER)
    "Tokens that a token sees, itself among them, as in Mistral; None: all before it."

    @property
    def attention_head_dim(self) -> int:
        return self.head_dim or self.hidden_size // self.num_heads

    @property
    def attention_kv_heads(self) -> int:
        return self.num_kv_heads

    def size(self) -> Size:
        width = self.hidden_size
        heads = self.num_heads * self.attention_head_dim  # H*D
        kv_heads = self.num_kv_heads * self.attention_head_dim  # K*D
        attention = 2 * width * heads + 2 * width * kv_heads  # query and output; key and value
        if self.qkv_bias:
            attention += heads + 2 * kv_heads
        if self.qk_norm:
            attention += 2 * self.attention_head_dim
        mlp = 3 * width * self.intermediate_size  # gate, up, down
        lookups, head = self.ends()
        return Size(
            lookups=lookups,
            blocks=self.num_layers * (attention + mlp + 2 * width),  # and two norms
            rest=width + head,
            attention=self.num_layers * heads,
        )

    def problems(self) -> list[Problem]:
        found = super().problems() + self.rope_scaling.problems()
        if self.num_kv_heads > 0 and self.num_heads % self.num_kv_heads:
            what = f"{self.num_heads} query heads cannot share {self.num_kv_heads} key-value heads evenly"
            allowed = ", ".join(str(n) for n in range(1, self.num_heads + 1) if self.num_heads % n == 0)
            found.append(Problem("num_kv_heads", what, allowed, "choose a divisor of num_heads"))
        if self.num_heads > 0 and self.attention_head_dim % 2:
            name = "head_dim" if self.head_dim else "num_heads"
            what = f"heads are {self.attention_head_dim} wide, and rotary embedding turns pairs"
            found.append(Problem(name, what, "an even head width", "change num_heads or head_dim"))
        return found
