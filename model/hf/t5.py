"""What our tensors and config fields are called in a Hugging Face folder of T5ForConditionalGeneration.

Checked against transformers 5.23, where tie_word_embeddings says that hidden states are scaled before the head; a head
that is not stored is the embedding in any case.
"""

from collections.abc import Mapping
from typing import Any

from model.config import T5Config
from model.hf.source import Source, Sources, require


def sources(config: T5Config) -> Sources:
    table = {
        "embedding.weight": Source(("shared.weight",)),
        "encoder_norm.weight": Source(("encoder.final_layer_norm.weight",)),
        "norm.weight": Source(("decoder.final_layer_norm.weight",)),
    }
    for ours, theirs in (("encoder_positions", "encoder"), ("positions", "decoder")):
        name = f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        table[f"{ours}.table.weight"] = Source((name,))
    for layer in range(config.num_layers):
        names = {"attention": "layer.0", "mlp": "layer.1"}
        table |= _block(config, f"encoder_blocks.{layer}", f"encoder.block.{layer}", names)
    for layer in range(config.decoder_layers):
        names = {"attention": "layer.0", "cross": "layer.1", "mlp": "layer.2"}
        table |= _block(config, f"blocks.{layer}", f"decoder.block.{layer}", names)
    if not config.tie_embeddings:
        table["lm_head.weight"] = Source(("lm_head.weight",))
    return table


def _block(config: T5Config, ours: str, theirs: str, places: Mapping[str, str]) -> Sources:
    heads, inner = config.num_heads * config.head_dim, config.intermediate_size
    parts = {  # ours: theirs, and the rows of each
        "attention.qkv": (("SelfAttention.q", "SelfAttention.k", "SelfAttention.v"), (heads,) * 3),
        "attention.output": (("SelfAttention.o",), ()),
        "cross.query": (("EncDecAttention.q",), ()),
        "cross.key_value": (("EncDecAttention.k", "EncDecAttention.v"), (heads,) * 2),
        "cross.output": (("EncDecAttention.o",), ()),
        "mlp.down": (("DenseReluDense.wo",), ()),
    }
    if config.gated_mlp:
        parts["mlp.gate_up"] = (("DenseReluDense.wi_0", "DenseReluDense.wi_1"), (inner,) * 2)
    else:
        parts["mlp.up"] = (("DenseReluDense.wi",), ())
    table = {}
    for part, (names, rows) in parts.items():
        if place := places.get(part.partition(".")[0]):
            stored = tuple(f"{theirs}.{place}.{name}.weight" for name in names)
            table[f"{ours}.{part}.weight"] = Source(stored, rows=rows)
    for part, place in places.items():
        table[f"{ours}.{part}_norm.weight"] = Source((f"{theirs}.{place}.layer_norm.weight",))
    return table


def to_hf_config(config: T5Config, *, pad_id: int | None) -> dict[str, Any]:
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "n_positions": config.max_seq_len,
        "d_model": config.hidden_size,
        "d_kv": config.head_dim,
        "d_ff": config.intermediate_size,
        "num_layers": config.num_layers,
        "num_decoder_layers": config.decoder_layers,
        "num_heads": config.num_heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "feed_forward_proj": "gated-gelu" if config.gated_mlp else "relu",
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "dropout_rate": 0.0,
        "decoder_start_token_id": pad_id or 0,
    }


def from_hf_config(values: Mapping[str, Any]) -> T5Config:
    require(values, "feed_forward_proj", ("relu", "gated-gelu"))
    require(values, "is_encoder_decoder", (True,))
    num_layers = values.get("num_layers", 6)
    decoder_layers = values.get("num_decoder_layers") or num_layers
    return T5Config(
        vocab_size=values.get("vocab_size", 32128),
        hidden_size=values.get("d_model", 512),
        intermediate_size=values.get("d_ff", 2048),
        num_layers=num_layers,
        num_decoder_layers=None if decoder_layers == num_layers else decoder_layers,
        num_heads=values.get("num_heads", 8),
        head_dim=values.get("d_kv", 64),
        max_seq_len=values.get("n_positions", 512),
        norm_eps=values.get("layer_norm_epsilon", 1e-6),
        tie_embeddings=values.get("scale_decoder_outputs", values.get("tie_word_embeddings", True)),
        gated_mlp=values.get("feed_forward_proj") == "gated-gelu",
        relative_buckets=values.get("relative_attention_num_buckets", 32),
        relative_distance=values.get("relative_attention_max_distance", 128),
    )


def is_left_out(name: str) -> bool:
    """Whether a stored tensor is none of ours: copies of the embedding, and a table of positions that nothing reads."""
    return name in {
        "lm_head.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
    }
