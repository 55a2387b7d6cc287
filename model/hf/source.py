"""Where one of our tensors is in a Hugging Face folder, and what every family's converter needs to say so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.config import DecoderConfig, is_number

PREFIX_LM = "prefix_lm"


@dataclass(frozen=True)
class Source:
    """How one of our tensors is made of theirs: rows of `names` one below the other, each transposed first if so."""

    names: tuple[str, ...]
    rows: tuple[int, ...] = ()
    "Rows of each, for the way back; empty: one tensor, all of it."
    transposed: bool = False
    "Whether theirs is a Conv1D weight [in, out], and ours a Linear weight [out, in]."
    unused_rows: int = 0
    "Rows at the beginning of theirs that no token uses and that ours is without."
    copies: tuple[str, ...] = ()
    "Further names that theirs is also stored under."


Sources = dict[str, Source]
"""Our tensor's name -> where it is in a Hugging Face folder."""


def each_kind(ours: str, theirs: tuple[str, ...], *, rows: tuple[int, ...] = ()) -> Sources:
    """Weight and bias of a layer, which may be several of theirs."""
    return {
        f"{ours}.{kind}": Source(tuple(f"{name}.{kind}" for name in theirs), rows=rows)
        for kind in ("weight", "bias")
    }


def class_keys(classes: Sequence[str]) -> dict[str, Any]:
    """What `config.json` says of the outputs of a head for whole texts; nothing where there is none."""
    if not classes:
        return {}
    return {
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
        "problem_type": "regression" if is_number(classes) else "single_label_classification",
    }


def classes_in(values: Mapping[str, Any]) -> list[str]:
    """The labels of a model for whole texts, in the order of its outputs; empty: it is another model."""
    if not any("ForSequenceClassification" in name for name in values.get("architectures") or []):
        return []
    labels = values.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # the defaults of transformers
    return [labels[number] for number in sorted(labels, key=int)]


def decoder_keys(config: DecoderConfig) -> dict[str, Any]:
    """What `config.json` says of a decoder beside its sizes; `prefix_lm` is ours, and transformers keeps it."""
    return class_keys(config.classes) | ({PREFIX_LM: True} if config.prefix_lm else {})


def decoder_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that `decoder_keys` wrote."""
    return {"classes": classes_in(values), PREFIX_LM: bool(values.get(PREFIX_LM, False))}


def require(values: Mapping[str, Any], key: str, allowed: tuple[object, ...]) -> None:
    """Raise ValueError unless `key` has one of the values; the first of `allowed` is the default of transformers."""
    if values.get(key, allowed[0]) not in allowed:
        words = " or ".join(str(value) for value in allowed)
        raise ValueError(f"{key} {values[key]} cannot be imported; supported: {words}")
