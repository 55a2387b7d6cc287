"""The families that both we and `transformers` compute, by our config's class and by their `model_type`."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from model.config import BertConfig, GPT2Config, LlamaConfig, ModelConfig, T5Config
from model.hf import bert, gpt2, llama, t5
from model.hf.source import Sources


@dataclass(frozen=True)
class Family:
    """One model in their terms."""

    sources: Sources
    hf_config: Callable[[], dict[str, Any]]
    "The architecture's part of `config.json`."
    is_left_out: Callable[[str], bool]
    "Whether a stored tensor's full name is none of ours and may be passed over."
    full_name: Callable[[str], str] = str
    "The name in today's transformers of a tensor that older folders call otherwise."
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    "Tensors that a folder may leave out, and which it has in their place."


def family_of(config: ModelConfig, *, pad_id: int | None) -> Family:
    """How `config` is written; `pad_id`: of the tokenizer, on which RoBERTa's positions depend."""
    match config:
        case GPT2Config():
            return Family(
                gpt2.sources(config), partial(gpt2.to_hf_config, config), gpt2.is_left_out, gpt2.full_name
            )
        case LlamaConfig():
            return Family(llama.sources(config), partial(llama.to_hf_config, config), llama.is_left_out)
        case BertConfig():
            return Family(
                bert.sources(config, pad_id=pad_id),
                partial(bert.to_hf_config, config, pad_id=pad_id),
                bert.is_left_out,
                partial(bert.full_name, config),
            )
        case T5Config():
            return Family(
                t5.sources(config),
                partial(t5.to_hf_config, config, pad_id=pad_id),
                t5.is_left_out,
                stand_ins={"lm_head.weight": "shared.weight"},
            )
    raise ValueError(f"{config.architecture} models have no counterpart in transformers to be exported to")


def auto_class(config: ModelConfig) -> str | None:
    """The class of `transformers` that loads an export with all its tensors; None where there is no counterpart."""
    if isinstance(config, BertConfig | GPT2Config | LlamaConfig) and config.classes:
        return "AutoModelForSequenceClassification"
    if isinstance(config, BertConfig):
        return "AutoModelForMaskedLM" if config.masked_lm_head else "AutoModel"
    if isinstance(config, T5Config):
        return "AutoModelForSeq2SeqLM"
    return "AutoModelForCausalLM" if isinstance(config, GPT2Config | LlamaConfig) else None


_IMPORTS: dict[str, Callable[[Mapping[str, Any]], ModelConfig]] = {
    "gpt2": gpt2.from_hf_config,
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), llama.from_hf_config),
    **dict.fromkeys(("bert", "roberta", "distilbert"), bert.from_hf_config),
    "t5": t5.from_hf_config,
}


def from_hf_config(values: Mapping[str, Any]) -> ModelConfig:
    """Our config of a `config.json`; keys left out have the defaults of transformers.

    Raises ValueError, naming the key, for an architecture or a variant that our models do not compute.
    """
    kind = values.get("model_type")
    if kind not in _IMPORTS:
        near = difflib.get_close_matches(str(kind), _IMPORTS, n=1, cutoff=0.75)
        meant = f'did you mean "{near[0]}"? ' if near else ""
        raise ValueError(f'model_type "{kind}" cannot be imported; {meant}known: {", ".join(_IMPORTS)}')
    return _IMPORTS[kind](values)
