"""What our tensors and config fields are called in a Hugging Face folder of LlamaForCausalLM.

Checked against transformers 5.23; `config.json` also carries the keys that version 4 reads.
"""

from collections.abc import Mapping
from typing import Any

from model.config import LlamaConfig
from model.hf.source import Source, Sources, require


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
    if not config.tie_embeddings:
        table["lm_head.weight"] = Source(("lm_head.weight",))
    return table


def to_hf_config(config: LlamaConfig) -> dict[str, Any]:
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


def from_hf_config(values: Mapping[str, Any]) -> LlamaConfig:
    require(values, "hidden_act", ("silu",))
    require(values, "attention_bias", (False,))
    require(values, "mlp_bias", (False,))
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


def is_left_out(name: str) -> bool:
    """Whether a stored tensor is none of ours: a tied head's copy, or a constant that old versions saved."""
    return name == "lm_head.weight" or name.endswith(".rotary_emb.inv_freq")
