"""What our tensors and config fields are called in a Hugging Face folder of GPT-2, with either head.

Checked against transformers 5.23; `config.json` also carries the keys that version 4 reads.
"""

from collections.abc import Mapping
from typing import Any

from model.config import GPT2Config
from model.hf.source import Source, Sources, decoder_fields, decoder_keys, require


def sources(config: GPT2Config) -> Sources:
    table = {name: Source((f"transformer.{theirs}",)) for name, theirs in _TOP.items()}
    for layer in range(config.num_layers):
        for ours, (theirs, is_matrix) in _BLOCK.items():
            for kind in ("weight", "bias"):
                name = f"transformer.h.{layer}.{theirs}.{kind}"
                table[f"blocks.{layer}.{ours}.{kind}"] = Source(
                    (name,), transposed=is_matrix and kind == "weight"
                )
    if config.classes:
        return table | {"classifier.output.weight": Source(("score.weight",))}
    if not config.tie_embeddings:
        table["lm_head.weight"] = Source(("lm_head.weight",))
    return table


_TOP = {
    "embedding.weight": "wte.weight",
    "position_embedding.weight": "wpe.weight",
    "norm.weight": "ln_f.weight",
    "norm.bias": "ln_f.bias",
}
_BLOCK = {  # ours: (theirs, whether it is a matrix)
    "attention_norm": ("ln_1", False),
    "attention.qkv": ("attn.c_attn", True),
    "attention.output": ("attn.c_proj", True),
    "mlp_norm": ("ln_2", False),
    "mlp.up": ("mlp.c_fc", True),
    "mlp.down": ("mlp.c_proj", True),
}


def to_hf_config(config: GPT2Config) -> dict[str, Any]:
    return {
        "architectures": ["GPT2ForSequenceClassification" if config.classes else "GPT2LMHeadModel"],
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
        **decoder_keys(config),
    }


def from_hf_config(values: Mapping[str, Any]) -> GPT2Config:
    require(values, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    require(values, "scale_attn_weights", (True,))
    require(values, "scale_attn_by_inverse_layer_idx", (False,))
    require(values, "add_cross_attention", (False,))
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
        **decoder_fields(values),
    )


def full_name(name: str) -> str:
    """The published folders leave the "transformer." prefix out."""
    return name if name.startswith(("transformer.", "lm_head.", "score.")) else f"transformer.{name}"


def is_left_out(name: str) -> bool:
    """Whether a stored tensor is none of ours: a tied head's copy, or a constant that old versions saved."""
    return name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias"))
