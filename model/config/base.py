"""What every architecture has: sizes, what is wrong with them, and how many parameters they make. Torch-free."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Self


class Problem(NamedTuple):
    """One wrong value: the field that holds it, what is wrong, what is allowed, what to do."""

    field: str
    what: str
    allowed: str
    do: str


@dataclass(frozen=True)
class Size:
    """Parameters by what they meet, and the width of all attentions together.

    A decoder or an encoder alone has no source: every token passes `blocks` and `rest`. In an encoder-decoder the
    tokens of the source pass `source`, and those of the target `blocks` and `rest`.
    """

    lookups: int
    "Parameters that no token multiplies: tables, which are only looked up."
    blocks: int
    "Parameters between the embedding and the last norm."
    rest: int
    "The last norm, and the vocabulary head with or without its own matrix."
    attention: int = 0
    "Sum over all self-attentions of heads times head width."
    source: int = 0
    "Parameters that every token of the source multiplies."
    source_attention: int = 0
    "As `attention`, of the encoder."
    cross_attention: int = 0
    "As `attention`, of the target's tokens over the source's."

    @property
    def parameters(self) -> int:
        return self.lookups + self.source + self.blocks + self.rest


@dataclass
class ModelConfig:
    """What every architecture has. Plain sizes; no field says where or how the model is trained."""

    architecture: str = ""
    "Name of the architecture: a key of CONFIGS."
    vocab_size: int | None = None
    "Rows of the embedding, in tokens; None: as many as the tokenizer has."
    hidden_size: int = 768
    "Width of the residual stream; >= 1."
    num_layers: int = 12
    "Blocks; >= 1."
    max_seq_len: int = 1024
    "Longest sequence, in tokens; >= 1."
    tie_embeddings: bool = True
    "Whether the vocabulary head is the embedding matrix itself."

    # no fields, for they are those of models without attention and MLPs; `AttentionConfig` has fields of these names
    intermediate_size = 0
    num_heads = 1

    is_causal: ClassVar[bool] = True
    "Whether the model predicts each next token of its input, which is what pretraining on plain text asks."
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    "Fields of which 0 is a size too."

    @property
    def attention_head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_heads

    @property
    def attention_kv_heads(self) -> int:
        """Heads that hold keys and values: what a KV cache must store."""
        return self.num_heads

    @property
    def decoder_layers(self) -> int:
        """Layers of what writes: those of generation's cache."""
        return self.num_layers

    @property
    def has_lm_head(self) -> bool:
        """Whether the model has a vocabulary head."""
        return True

    def size(self) -> Size:
        """Parameters, counted from these values alone; `vocab_size` must be known."""
        raise NotImplementedError

    def embedding_size(self) -> int:
        """Parameters of the token embedding."""
        assert self.vocab_size is not None, "parameters can be counted once vocab_size is known"
        return self.vocab_size * self.hidden_size

    def problems(self) -> list[Problem]:
        """Everything wrong with these values on their own; empty when a model can be built."""
        return self._wrong_architecture() + self._not_positive()

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
        return asdict(self, dict_factory=_plain)

    def _wrong_architecture(self) -> list[Problem]:
        own = type(self)().architecture
        if self.architecture == own:
            return []
        what = f'architecture "{self.architecture}" does not fit the fields of {type(self).__name__}'
        return [Problem("architecture", what, own, "choose another model config to change the architecture")]

    def _not_positive(self) -> list[Problem]:
        found = []
        for name, value in self.to_dict().items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                continue
            if value < 0 or (value == 0 and name not in self.may_be_zero):
                allowed = "0, or a positive number" if name in self.may_be_zero else "a positive number"
                found.append(Problem(name, f"{name} is {value}", allowed, f"set {name} above 0"))
        return found


@dataclass
class AttentionConfig(ModelConfig):
    """What every architecture of attentions and MLPs has."""

    hidden_size: int = 768
    "Width of the residual stream; a multiple of num_heads."
    intermediate_size: int = 3072
    "Width inside the MLP; >= 1."
    num_heads: int = 12
    "Query heads of each attention; >= 1."
    norm_eps: float = 1e-5
    "Added to the variance in each norm; > 0."

    def problems(self) -> list[Problem]:
        return super().problems() + self._indivisible()

    def _indivisible(self) -> list[Problem]:
        if self.num_heads <= 0 or self.hidden_size % self.num_heads == 0:
            return []
        what = f"hidden_size {self.hidden_size} cannot be divided among {self.num_heads} heads"
        near = max(1, round(self.hidden_size / self.num_heads)) * self.num_heads
        return [Problem("hidden_size", what, "a multiple of num_heads", f"for example {near}")]


ADDED_LATER = {"added_later": True}
"""Metadata of a field that older configs lack: at its default it is no part of a node's identity.

The default may never be changed: it is what was meant before the field was there.
"""


def _plain(values: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.name if isinstance(value, Enum) else value for name, value in values}


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error about a misspelt name: the nearest known one, else all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"


def classes_of(config: ModelConfig) -> list[str]:
    """What its head for whole texts tells apart, in the order of its outputs; empty: it has none."""
    classes: list[str] = getattr(config, "classes", [])
    return classes


def reads_prompts_whole(config: ModelConfig) -> bool:
    """Whether a decoder's prompt sees all of itself, and not only what was before."""
    return isinstance(config, DecoderConfig) and config.prefix_lm


def is_number(classes: Sequence[str]) -> bool:
    """Whether a head for whole texts says a number, and no class: where there is one name, as in transformers."""
    return len(classes) == 1


def text_head_size(config: ModelConfig) -> int:
    """Parameters of the head for whole texts, which meets a text, and no token."""
    width, classes = config.hidden_size, len(classes_of(config))
    if config.is_causal:
        return classes * width
    return width * width + width + classes * (width + 1) if classes else 0


@dataclass
class DecoderConfig(AttentionConfig):
    """What every decoder of attentions has."""

    classes: list[str] = field(default_factory=list, metadata=ADDED_LATER)
    """What a head for whole texts tells apart, in the order of its outputs; it stands in place of the vocabulary head.
    Empty: the model predicts tokens."""
    prefix_lm: bool = field(default=False, metadata=ADDED_LATER)
    """Whether the tokens of a prompt all see each other (Raffel et al. 2019, section 3.2.1): what generation and
    evaluation go by. Training sets it where the objective is prefix_lm, and that is the objective of such a model."""

    @property
    def has_lm_head(self) -> bool:
        return not self.classes

    def ends(self) -> tuple[int, int]:
        """Parameters of embedding and heads: of those that are only looked up, and of those that tokens multiply."""
        table = self.embedding_size()
        if self.classes:
            return table + text_head_size(self), 0
        return (0 if self.tie_embeddings else table), table
