"""What our tensors and config fields are called in folders of LLaMA, Mistral, Qwen 2 and Qwen 3.

Which of them a model is written as follows from its settings.

Checked against transformers 5.23; `config.json` also carries the keys that version 4 reads.
"""

from collections.abc import Mapping
from typing import Any

from model.config import LlamaConfig, RopeKind, RopeScaling
from model.hf.source import Source, Sources, decoder_fields, decoder_keys, require


def sources(config: LlamaConfig) -> Sources:
    heads = config.num_heads * config.attention_head_dim
    kv_heads = config.num_kv_heads * config.attention_head_dim
    table = {
        "embedding.weight": Source(("model.embed_tokens.weight",)),
        "norm.weight": Source(("model.norm.weight",)),
    }
    block = {
        "attention_norm": (("input_layernorm",), ()),
        "attention.qkv": (
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            (heads, kv_heads, kv_heads),
        ),
        "attention.output": (("self_attn.o_proj",), ()),
        "mlp_norm": (("post_attention_layernorm",), ()),
        "mlp.gate_up": (("mlp.gate_proj", "mlp.up_proj"), (config.intermediate_size,) * 2),
        "mlp.down": (("mlp.down_proj",), ()),
    }
    for layer in range(config.num_layers):
        for ours, (theirs, rows) in block.items():
            names = tuple(f"model.layers.{layer}.{name}.weight" for name in theirs)
            table[f"blocks.{layer}.{ours}.weight"] = Source(names, rows=rows)
        attention = f"model.layers.{layer}.self_attn"
        if config.qkv_bias:
            names = tuple(f"{attention}.{name}_proj.bias" for name in "qkv")
            table[f"blocks.{layer}.attention.qkv.bias"] = Source(names, rows=(heads, kv_heads, kv_heads))
        if config.qk_norm:
            table[f"blocks.{layer}.attention.query_norm.weight"] = Source((f"{attention}.q_norm.weight",))
            table[f"blocks.{layer}.attention.key_norm.weight"] = Source((f"{attention}.k_norm.weight",))
    if config.classes:
        return table | {"classifier.output.weight": Source(("score.weight",))}
    if not config.tie_embeddings:
        table["lm_head.weight"] = Source(("lm_head.weight",))
    return table


def model_type(config: LlamaConfig) -> str:
    """What `transformers` calls a model of these settings."""
    if config.qk_norm:
        if config.qkv_bias:
            raise ValueError("qkv_bias with qk_norm cannot be exported: transformers has no such model")
        return "qwen3"
    if config.qkv_bias:
        return "qwen2"
    return "llama" if config.sliding_window is None else "mistral"


def to_hf_config(config: LlamaConfig) -> dict[str, Any]:
    kind = model_type(config)
    rotary = rope_parameters(config)
    values = {
        "architectures": [f"{_NAMES[kind]}{'SequenceClassification' if config.classes else 'CausalLM'}"],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_seq_len,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.attention_head_dim,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rotary,
        "rope_theta": config.rope_theta,  # where transformers 4 looks, as for rope_scaling
        "hidden_act": "silu",
        "tie_word_embeddings": config.tie_embeddings,
        **decoder_keys(config),
    }
    if kind in {"llama", "qwen3"}:
        values["attention_bias"] = False
    if kind == "llama":
        values["mlp_bias"] = False
    else:
        values["sliding_window"] = config.sliding_window
    if kind.startswith("qwen"):
        values |= {"use_sliding_window": config.sliding_window is not None, "max_window_layers": 0}
    scaling = config.rope_scaling
    if scaling.kind is RopeKind.dynamic:  # theirs counts from here
        values["max_position_embeddings"] = scaling.trained_seq_len
    if scaling.kind is not RopeKind.none:
        values["rope_scaling"] = {name: each for name, each in rotary.items() if name != "rope_theta"}
    return values


_NAMES = {"llama": "LlamaFor", "mistral": "MistralFor", "qwen2": "Qwen2For", "qwen3": "Qwen3For"}


def rope_parameters(config: LlamaConfig) -> dict[str, Any]:
    """The keys that transformers reads for each kind, and no others."""
    scaling = config.rope_scaling
    kind = "default" if scaling.kind is RopeKind.none else scaling.kind.name
    values = {"rope_type": kind, "rope_theta": config.rope_theta}
    if scaling.kind is not RopeKind.none:
        values["factor"] = scaling.factor
    if scaling.kind in {RopeKind.yarn, RopeKind.llama3}:
        values["original_max_position_embeddings"] = scaling.trained_seq_len
    if scaling.kind is RopeKind.yarn:
        values |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
    if scaling.kind is RopeKind.llama3:
        values |= {"low_freq_factor": scaling.low_frequency, "high_freq_factor": scaling.high_frequency}
    return values


_SIZES = {  # defaults of transformers: vocab_size, intermediate_size, num_key_value_heads, max_position_embeddings
    "llama": (32000, 11008, None, 2048),
    "mistral": (32000, 14336, 8, 131072),
    "qwen2": (151936, 22016, 32, 32768),
    "qwen3": (151936, 22016, 32, 32768),
}


def from_hf_config(values: Mapping[str, Any]) -> LlamaConfig:
    kind = str(values["model_type"])
    require(values, "hidden_act", ("silu",))
    require(values, "attention_bias", (False,))
    require(values, "mlp_bias", (False,))
    vocab_size, intermediate_size, kv_heads, max_seq_len = _SIZES[kind]
    num_heads = values.get("num_attention_heads", 32)
    max_seq_len = values.get("max_position_embeddings", max_seq_len)
    theta, scaling = _rotary(values, max_seq_len)
    if scaling.kind is RopeKind.dynamic:
        max_seq_len = int(max_seq_len * scaling.factor)
    return LlamaConfig(
        vocab_size=values.get("vocab_size", vocab_size),
        hidden_size=values.get("hidden_size", 4096),
        intermediate_size=values.get("intermediate_size", intermediate_size),
        num_layers=values.get("num_hidden_layers", 32),
        num_heads=num_heads,
        num_kv_heads=values.get("num_key_value_heads", kv_heads) or num_heads,
        head_dim=values.get("head_dim", 128 if kind == "qwen3" else None),
        max_seq_len=max_seq_len,
        norm_eps=values.get("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
        sliding_window=_window(values, kind),
        tie_embeddings=values.get("tie_word_embeddings", False),
        **decoder_fields(values),
    )


def _rotary(values: Mapping[str, Any], max_seq_len: int) -> tuple[float, RopeScaling]:
    """Base and stretching; version 4 of transformers has them apart, version 5 together."""
    found = {"rope_theta": values.get("rope_theta", 10000.0)}
    found |= values.get("rope_parameters") or values.get("rope_scaling") or {}
    name = found.get("rope_type", found.get("type", "default"))
    others = {
        "partial_rotary_factor": 1.0,
        "attention_factor": None,
        "mscale": None,
        "mscale_all_dim": None,
        "truncate": True,
    }
    unread = [key for key, default in others.items() if found.get(key, default) != default]
    if name not in {"default", *(kind.name for kind in RopeKind)} or unread:
        known = ", ".join(("default", *(kind.name for kind in RopeKind if kind is not RopeKind.none)))
        raise ValueError(
            f"rope_parameters {found} cannot be imported: supported are the rope_types {known}, "
            f"and of these not {', '.join(others)}"
        )
    theta = float(found["rope_theta"])
    if name == "default":
        return theta, RopeScaling()
    trained = found.get("original_max_position_embeddings") or max_seq_len
    return theta, RopeScaling(
        kind=RopeKind[name],
        factor=float(found["factor"]),
        trained_seq_len=None if name == "linear" else trained,
        low_frequency=float(found.get("low_freq_factor", 1.0)),
        high_frequency=float(found.get("high_freq_factor", 4.0)),
        beta_slow=float(found.get("beta_slow") or 1.0),
        beta_fast=float(found.get("beta_fast") or 32.0),
    )


def _window(values: Mapping[str, Any], kind: str) -> int | None:
    """Of all layers; Qwen may have it in the upper ones alone, which ours have not."""
    if kind == "llama":
        return None
    window: int | None = values.get("sliding_window", 4096)
    if kind == "mistral":
        return window
    first, num_layers = values.get("max_window_layers", 28), values.get("num_hidden_layers", 32)
    if not values.get("use_sliding_window", False) or first >= num_layers:
        return None
    if first > 0:
        raise ValueError(
            f"max_window_layers {first} cannot be imported: a window is in all layers, or in none"
        )
    return window


def is_left_out(name: str) -> bool:
    """Whether a stored tensor is none of ours: a tied head's copy, or a constant that old versions saved."""
    return name == "lm_head.weight" or name.endswith(".rotary_emb.inv_freq")
