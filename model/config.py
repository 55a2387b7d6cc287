"""The shape of a model: one dataclass per architecture, torch-free, the schema of `conf/model/*.yaml`."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, Self


class Problem(NamedTuple):
    """One wrong value: the field that holds it, what is wrong, what is allowed, what to do."""

    field: str
    what: str
    allowed: str
    do: str


@dataclass
class ModelConfig:
    """What every architecture has. Plain sizes; no field says where or how the model is trained."""

    architecture: str = ""
    "Name of the architecture: gpt2 or llama."
    vocab_size: int | None = None
    "Rows of the embedding, in tokens; None: as many as the tokenizer has."
    hidden_size: int = 768
    "Width of the residual stream; a multiple of num_heads."
    intermediate_size: int = 3072
    "Width inside the MLP; >= 1."
    num_layers: int = 12
    "Blocks; >= 1."
    num_heads: int = 12
    "Query heads of each attention; >= 1."
    max_seq_len: int = 1024
    "Longest sequence, in tokens; >= 1."
    norm_eps: float = 1e-5
    "Added to the variance in each norm; > 0."
    tie_embeddings: bool = True
    "Whether the vocabulary head is the embedding matrix itself."

    @property
    def attention_head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_heads

    @property
    def attention_kv_heads(self) -> int:
        """Heads that hold keys and values: what a KV cache must store."""
        return self.num_heads

    def problems(self) -> list[Problem]:
        """Everything wrong with these values on their own; empty when a model can be built."""
        found = self._wrong_architecture() + self._not_positive()
        if self.num_heads > 0 and self.hidden_size % self.num_heads:
            what = f"hidden_size {self.hidden_size} cannot be divided among {self.num_heads} heads"
            near = max(1, round(self.hidden_size / self.num_heads)) * self.num_heads
            found.append(Problem("hidden_size", what, "a multiple of num_heads", f"for example {near}"))
        return found

    def vocab_problems(self, tokenizer_vocab_size: int) -> list[Problem]:
        """What is wrong with `vocab_size` for a tokenizer with that many ids."""
        if self.vocab_size is None or self.vocab_size >= tokenizer_vocab_size:
            return []
        what = f"vocab_size {self.vocab_size} is smaller than the tokenizer's {tokenizer_vocab_size} ids"
        do = "leave it out (null) to take the tokenizer's size"
        return [Problem("vocab_size", what, f"null, or >= {tokenizer_vocab_size}", do)]

    def with_vocab_size(self, tokenizer_vocab_size: int) -> Self:
        """A copy whose `vocab_size` is a number: its own where set, else the tokenizer's."""
        return replace(self, vocab_size=self.vocab_size or tokenizer_vocab_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `model.json` holds them."""
        return asdict(self)

    def _wrong_architecture(self) -> list[Problem]:
        own = type(self)().architecture
        if self.architecture == own:
            return []
        what = f'architecture "{self.architecture}" does not fit the fields of {type(self).__name__}'
        return [Problem("architecture", what, own, "choose another model config to change the architecture")]

    def _not_positive(self) -> list[Problem]:
        return [
            Problem(name, f"{name} is {value}", "a positive number", f"set {name} above 0")
            for name, value in self.to_dict().items()
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0
        ]


@dataclass
class GPT2Config(ModelConfig):
    """GPT-2 (Radford et al. 2019). The defaults are the published 124M model's."""

    architecture: str = "gpt2"
    "Always gpt2."


@dataclass
class LlamaConfig(ModelConfig):
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

    @property
    def attention_head_dim(self) -> int:
        return self.head_dim or self.hidden_size // self.num_heads

    @property
    def attention_kv_heads(self) -> int:
        return self.num_kv_heads

    def problems(self) -> list[Problem]:
        found = super().problems()
        if self.num_kv_heads > 0 and self.num_heads % self.num_kv_heads:
            what = f"{self.num_heads} query heads cannot share {self.num_kv_heads} key-value heads evenly"
            allowed = ", ".join(str(n) for n in range(1, self.num_heads + 1) if self.num_heads % n == 0)
            found.append(Problem("num_kv_heads", what, allowed, "choose a divisor of num_heads"))
        if self.num_heads > 0 and self.attention_head_dim % 2:
            name = "head_dim" if self.head_dim else "num_heads"
            what = f"heads are {self.attention_head_dim} wide, and rotary embedding turns pairs"
            found.append(Problem(name, what, "an even head width", "change num_heads or head_dim"))
        return found


CONFIGS: dict[str, type[ModelConfig]] = {"gpt2": GPT2Config, "llama": LlamaConfig}
"""The config class of each architecture, in the order they are listed to users."""


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `to_dict`; `values` must name its architecture.

    Raises:
        ValueError: The architecture, a key or a value is unknown or wrong; the message says which and what is allowed.
    """
    name = str(values.get("architecture", ""))
    if name not in CONFIGS:
        raise ValueError(f'unknown architecture "{name}"; {suggestion(name, CONFIGS)}')
    known = [field.name for field in fields(CONFIGS[name])]
    for key in values:
        if key not in known:
            raise ValueError(f'unknown field "{key}" of a {name} model; {suggestion(key, known)}')
    config = CONFIGS[name](**values)
    if problems := config.problems():
        raise ValueError("; ".join(f"{p.what} (allowed: {p.allowed})" for p in problems))
    return config


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error about a misspelt name: the nearest known one, else all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
