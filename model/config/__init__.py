"""The shape of a model: one dataclass per architecture, torch-free, the schema of `conf/model/*.yaml`."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from model.config.base import (
    ADDED_LATER,
    DecoderConfig,
    ModelConfig,
    Problem,
    Size,
    classes_of,
    is_number,
    reads_prompts_whole,
    suggestion,
)
from model.config.decoders import GPT2Config, LlamaConfig, RopeKind, RopeScaling
from model.config.encoder_decoders import T5Config, TransformerConfig
from model.config.encoders import BertConfig
from model.config.recurrent import Cell, RnnConfig, RnnEncoderConfig, RnnSeq2SeqConfig

__all__ = [
    "ADDED_LATER",
    "CONFIGS",
    "BertConfig",
    "Cell",
    "DecoderConfig",
    "GPT2Config",
    "LlamaConfig",
    "ModelConfig",
    "Problem",
    "RnnConfig",
    "RnnEncoderConfig",
    "RnnSeq2SeqConfig",
    "RopeKind",
    "RopeScaling",
    "Size",
    "T5Config",
    "TransformerConfig",
    "classes_of",
    "config_from_dict",
    "is_number",
    "reads_prompts_whole",
    "suggestion",
]

CONFIGS: dict[str, type[ModelConfig]] = {
    "gpt2": GPT2Config,
    "llama": LlamaConfig,
    "bert": BertConfig,
    "transformer": TransformerConfig,
    "t5": T5Config,
    "rnn": RnnConfig,
    "rnn_encoder": RnnEncoderConfig,
    "rnn_seq2seq": RnnSeq2SeqConfig,
}
"""The config class of each architecture, in the order they are listed to users."""


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `to_dict`; `values` must name its architecture.

    Raises:
        ValueError: The architecture, a key or a value is unknown or wrong; the message says which and what is allowed.
    """
    name = str(values.get("architecture", ""))
    if name not in CONFIGS:
        raise ValueError(f'unknown architecture "{name}"; {suggestion(name, CONFIGS)}')
    config: ModelConfig = _built(CONFIGS[name], values, f"a {name} model")
    if problems := config.problems():
        raise ValueError("; ".join(f"{p.what} (allowed: {p.allowed})" for p in problems))
    return config


def _built(kind: type, values: Mapping[str, Any], of: str) -> Any:
    types = {field.name: field.type for field in fields(kind)}
    for key in values:
        if key not in types:
            raise ValueError(f'unknown field "{key}" of {of}; {suggestion(key, types)}')
    return kind(**{key: _typed(key, value, types[key]) for key, value in values.items()})


def _typed(key: str, value: Any, kind: Any) -> Any:
    """A choice is stored by its name, and a group of fields as a mapping."""
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
        return _built(kind, value, key)
    if not (isinstance(kind, type) and issubclass(kind, Enum)) or isinstance(value, kind):
        return value
    if value not in kind.__members__:
        raise ValueError(f'{key} "{value}" is unknown; {suggestion(str(value), kind.__members__)}')
    return kind[value]
