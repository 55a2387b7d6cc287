"""What our tensors and config fields are called in folders of BERT, RoBERTa and DistilBERT.

Which of the three a model is written as follows from its table of token types: BERT has 2, RoBERTa 1, DistilBERT
none. RoBERTa counts positions from pad_id + 1, and its table has rows before that which no token uses. A model without
a head for masked tokens is the bare encoder (BertModel). Checked against transformers 5.23.
"""

from collections.abc import Mapping
from typing import Any

from model.config import BertConfig
from model.hf.source import Source, Sources, class_keys, classes_in, each_kind, require

ROBERTA_PAD_ID = 1
"""Of the published RoBERTa; where a tokenizer has none."""
DISTILBERT_NORM_EPS = 1e-12
"""Written into the code of transformers."""

_SELF = "attention.self"
_BLOCKS = {
    "bert": {
        "attention.qkv": (f"{_SELF}.query", f"{_SELF}.key", f"{_SELF}.value"),
        "attention.output": ("attention.output.dense",),
        "attention_norm": ("attention.output.LayerNorm",),
        "mlp.up": ("intermediate.dense",),
        "mlp.down": ("output.dense",),
        "mlp_norm": ("output.LayerNorm",),
    },
    "distilbert": {
        "attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.output": ("attention.out_lin",),
        "attention_norm": ("sa_layer_norm",),
        "mlp.up": ("ffn.lin1",),
        "mlp.down": ("ffn.lin2",),
        "mlp_norm": ("output_layer_norm",),
    },
}
_BLOCKS["roberta"] = _BLOCKS["bert"]
_HEADS = {  # dense, norm, what holds the matrix, and the bias
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm",
             "cls.predictions.decoder", "cls.predictions.bias"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"),
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias"),
}  # fmt: skip
_MASKED_LM = {
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
}
_CLASSIFIERS = {
    "bert": ("bert.pooler.dense", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
}
_CLASSIFICATION = {"bert": "BertForSequenceClassification", "roberta": "RobertaForSequenceClassification"}
_BARE = {"bert": "BertModel", "roberta": "RobertaModel", "distilbert": "DistilBertModel"}


def model_type(config: BertConfig) -> str:
    """What `transformers` calls a model of these settings."""
    return {0: "distilbert", 1: "roberta"}.get(config.num_token_types, "bert")


def sources(config: BertConfig, *, pad_id: int | None) -> Sources:
    kind = model_type(config)
    prefix = f"{kind}." if _has_head(config) else ""
    unused = _unused_positions(kind, pad_id)
    table = {
        "embedding.weight": Source((f"{prefix}embeddings.word_embeddings.weight",)),
        "position_embedding.weight": Source(
            (f"{prefix}embeddings.position_embeddings.weight",), unused_rows=unused
        ),
    }
    if config.num_token_types:
        table["type_embedding.weight"] = Source((f"{prefix}embeddings.token_type_embeddings.weight",))
    table |= each_kind("norm", (f"{prefix}embeddings.LayerNorm",))
    stack = f"{prefix}{'transformer' if kind == 'distilbert' else 'encoder'}.layer"
    for layer in range(config.num_layers):
        for ours, theirs in _BLOCKS[kind].items():
            names = tuple(f"{stack}.{layer}.{name}" for name in theirs)
            rows = (config.hidden_size,) * len(names) if len(names) > 1 else ()
            table |= each_kind(f"blocks.{layer}.{ours}", names, rows=rows)
    table |= _head_sources(config, kind) if config.masked_lm_head else {}
    return table | (_classifier_sources(kind) if config.classes else {})


def _has_head(config: BertConfig) -> bool:
    """Whether it is a model with a head, whose class writes the bare encoder under a prefix."""
    return config.masked_lm_head or bool(config.classes)


def _classifier_sources(kind: str) -> Sources:
    if kind not in _CLASSIFIERS:
        raise ValueError(
            f"a {kind} model's classifier has another activation than ours and cannot be exported"
        )
    dense, output = _CLASSIFIERS[kind]
    return each_kind("classifier.dense", (dense,)) | each_kind("classifier.output", (output,))


def _head_sources(config: BertConfig, kind: str) -> Sources:
    dense, norm, matrix, bias = _HEADS[kind]
    table = each_kind("lm_head.dense", (dense,)) | each_kind("lm_head.norm", (norm,))
    if config.tie_embeddings:
        return table | {"lm_head.bias": Source((bias,))}
    # theirs adds the matrix's own bias and keeps the other beside it
    copies = () if bias == f"{matrix}.bias" else (bias,)
    table["lm_head.bias"] = Source((f"{matrix}.bias",), copies=copies)
    return table | {"lm_head.weight": Source((f"{matrix}.weight",))}


def to_hf_config(config: BertConfig, *, pad_id: int | None) -> dict[str, Any]:
    kind = model_type(config)
    values: dict[str, Any] = {
        "architectures": [_class_name(config, kind)],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "max_position_embeddings": config.max_seq_len + _unused_positions(kind, pad_id),
    }
    values |= class_keys(config.classes)
    if kind == "distilbert":
        return values | _distilbert_sizes(config)
    if kind == "roberta":
        values["pad_token_id"] = ROBERTA_PAD_ID if pad_id is None else pad_id
    return values | {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "type_vocab_size": config.num_token_types,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _class_name(config: BertConfig, kind: str) -> str:
    if config.classes:
        return _CLASSIFICATION[kind]
    return (_MASKED_LM if config.masked_lm_head else _BARE)[kind]


def _distilbert_sizes(config: BertConfig) -> dict[str, Any]:
    if config.norm_eps != DISTILBERT_NORM_EPS:
        raise ValueError(
            f"norm_eps {config.norm_eps} cannot be exported: DistilBERT's is {DISTILBERT_NORM_EPS}; "
            "set it so, or num_token_types to 2"
        )
    return {
        "dim": config.hidden_size,
        "hidden_dim": config.intermediate_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "activation": "gelu",
        "sinusoidal_pos_embds": False,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }


def from_hf_config(values: Mapping[str, Any]) -> BertConfig:
    kind = str(values["model_type"])
    heads = [
        name for name in values.get("architectures") or [] if "MaskedLM" in name or "PreTraining" in name
    ]
    shared: dict[str, Any] = {
        "vocab_size": values.get("vocab_size", 50265 if kind == "roberta" else 30522),
        "tie_embeddings": values.get("tie_word_embeddings", True),
        "masked_lm_head": bool(heads) or not values.get("architectures"),
        "classes": classes_in(values),
    }
    positions = values.get("max_position_embeddings", 512)
    if kind == "distilbert":
        require(values, "activation", ("gelu",))
        return BertConfig(
            **shared,
            hidden_size=values.get("dim", 768),
            intermediate_size=values.get("hidden_dim", 3072),
            num_layers=values.get("n_layers", 6),
            num_heads=values.get("n_heads", 12),
            max_seq_len=positions,
            norm_eps=DISTILBERT_NORM_EPS,
            num_token_types=0,
        )
    require(values, "hidden_act", ("gelu",))
    require(values, "is_decoder", (False,))
    require(values, "position_embedding_type", ("absolute", None))
    types = (2,) if kind == "bert" else (1,)
    require(values, "type_vocab_size", types)
    return BertConfig(
        **shared,
        hidden_size=values.get("hidden_size", 768),
        intermediate_size=values.get("intermediate_size", 3072),
        num_layers=values.get("num_hidden_layers", 12),
        num_heads=values.get("num_attention_heads", 12),
        max_seq_len=positions - _unused_positions(kind, values.get("pad_token_id")),
        norm_eps=values.get("layer_norm_eps", 1e-12),
        num_token_types=types[0],
    )


def _unused_positions(kind: str, pad_id: int | None) -> int:
    if kind != "roberta":
        return 0
    return (ROBERTA_PAD_ID if pad_id is None else pad_id) + 1


def full_name(config: BertConfig, name: str) -> str:
    """Published folders say gamma and beta, and leave out or keep the family's prefix as their class did."""
    prefix = f"{model_type(config)}."
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    if not _has_head(config):
        return name.removeprefix(prefix)
    return (
        f"{prefix}{name}" if name.startswith(("embeddings.", "encoder.", "transformer.", "pooler.")) else name
    )


def is_left_out(name: str) -> bool:
    """Whether a stored tensor is none of ours: a copy of the tied head, the pooler, next-sentence prediction."""
    copies = tuple(f"{head[2]}." for head in _HEADS.values())
    biases = ("cls.predictions.bias", "lm_head.bias")
    return (
        name.startswith((*copies, *biases, "cls.seq_relationship."))
        or ".position_ids" in name
        or "pooler.dense." in name
    )
