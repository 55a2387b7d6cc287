"""What our tensors and config fields are called in a Hugging Face folder of GPT2LMHeadModel or LlamaForCausalLM.

Checked against transformers 5.23; `config.json` also carries the keys that version 4 reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.config import GPT2Config, LlamaConfig, ModelConfig


@dataclass(frozen=True)
class Source:
    """How one of our tensors is made of theirs: rows of `names` one below the other, each transposed first if so."""

    names: tuple[str, ...]
    rows: tuple[int, ...] = ()
    "Rows of each, for the way back; empty: one tensor, all of it."
    transposed: bool = False
    "Whether theirs is a Conv1D weight [in, out], and ours a Linear weight [out, in]."


def sources(config: ModelConfig) -> dict[str, Source]:
    """Our tensor's name -> where it is in a Hugging Face folder."""
    table = _llama_sources(config) if isinstance(config, LlamaConfig) else _gpt2_sources(config)
    if not config.tie_embeddings:
        table["lm_head.weight"] = Source(("lm_head.weight",))
    return table


def without_parameters(name: str) -> bool:
    """Whether a stored tensor is a constant that old versions of transformers saved beside the weights."""
    return name.endswith((".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"))


def to_hf_config(config: ModelConfig) -> dict[str, Any]:
    """The architecture's part of `config.json`."""
    if isinstance(config, LlamaConfig):
        return _to_llama(config)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.max_seq_len,
        "n_ctx": config.max_seq_len,
        "n_embd": config.hidden_size,
        "n_inner": config.intermediate_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": "gelu_new",
        "tie_word_embeddings": config.tie_embeddings,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def from_hf_config(values: Mapping[str, Any]) -> ModelConfig:
    """Our config of a `config.json`; keys left out have the defaults of transformers.

    Raises ValueError, naming the key, for an architecture or a variant that our models do not compute.
    """
    kind = values.get("model_type")
    if kind == "gpt2":
        return _from_gpt2(values)
    if kind == "llama":
        return _from_llama(values)
    raise ValueError(f'model_type "{kind}" cannot be imported; known: gpt2, llama')


def _gpt2_sources(config: ModelConfig) -> dict[str, Source]:
    table = {name: Source((f"transformer.{theirs}",)) for name, theirs in _GPT2_TOP.items()}
    for layer in range(config.num_layers):
        for ours, (theirs, is_matrix) in _GPT2_BLOCK.items():
            for kind in ("weight", "bias"):
                name = f"transformer.h.{layer}.{theirs}.{kind}"
                table[f"blocks.{layer}.{ours}.{kind}"] = Source(
                    (name,), transposed=is_matrix and kind == "weight"
                )
    return table


_GPT2_TOP = {
    "embedding.weight": "wte.weight",
    "position_embedding.weight": "wpe.weight",
    "norm.weight": "ln_f.weight",
    "norm.bias": "ln_f.bias",
}
_GPT2_BLOCK = {  # ours: (theirs, whether it is a matrix)
    "attention_norm": ("ln_1", False),
    "attention.qkv": ("attn.c_attn", True),
    "attention.output": ("attn.c_proj", True),
    "mlp_norm": ("ln_2", False),
    "mlp.up": ("mlp.c_fc", True),
    "mlp.down": ("mlp.c_proj", True),
}


def _llama_sources(config: LlamaConfig) -> dict[str, Source]:
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
    return table


def _to_llama(config: LlamaConfig) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_seq_len,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.attention_head_dim,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,  # where transformers 4 looks
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
    }


def _from_gpt2(values: Mapping[str, Any]) -> GPT2Config:
    _require(values, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    _require(values, "scale_attn_weights", (True,))
    _require(values, "scale_attn_by_inverse_layer_idx", (False,))
    _require(values, "add_cross_attention", (False,))
    width = values.get("n_embd", 768)
    return GPT2Config(
        vocab_size=values.get("vocab_size", 50257),
        hidden_size=width,
        intermediate_size=values.get("n_inner") or 4 * width,
        num_layers=values.get("n_layer", 12),
        num_heads=values.get("n_head", 12),
        max_seq_len=values.get("n_positions", 1024),
        norm_eps=values.get("layer_norm_epsilon", 1e-5),
        tie_embeddings=values.get("tie_word_embeddings", True),
    )


def _from_llama(values: Mapping[str, Any]) -> LlamaConfig:
    _require(values, "hidden_act", ("silu",))
    _require(values, "attention_bias", (False,))
    _require(values, "mlp_bias", (False,))
    rotary = {"rope_theta": values.get("rope_theta", 10000.0)}
    rotary |= values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind != "default" or rotary.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(
            f'rope_parameters {rotary} cannot be imported: only rope_type "default" over whole heads'
        )
    num_heads = values.get("num_attention_heads", 32)
    return LlamaConfig(
        vocab_size=values.get("vocab_size", 32000),
        hidden_size=values.get("hidden_size", 4096),
        intermediate_size=values.get("intermediate_size", 11008),
        num_layers=values.get("num_hidden_layers", 32),
        num_heads=num_heads,
        num_kv_heads=values.get("num_key_value_heads") or num_heads,
        head_dim=values.get("head_dim"),
        max_seq_len=values.get("max_position_embeddings", 2048),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        rope_theta=float(rotary["rope_theta"]),
        tie_embeddings=values.get("tie_word_embeddings", False),
    )


def _require(values: Mapping[str, Any], key: str, allowed: tuple[object, ...]) -> None:
    """The first of `allowed` is the default of transformers."""
    if values.get(key, allowed[0]) not in allowed:
        words = " or ".join(str(value) for value in allowed)
        raise ValueError(f"{key} {values[key]} cannot be imported; supported: {words}")
