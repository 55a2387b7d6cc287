"""The weights that a training stage leaves behind: `model.safetensors` in fp32 and `model.json`.

Names are our own parameters' names. A tied vocabulary head is stored once, as the embedding.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.base import LanguageModel
from model.config import BertConfig, ModelConfig, RnnEncoderConfig, config_from_dict
from model.products import provide_bf16_products
from model.registry import build_model
from model.text_head import text_head

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "model.json"
NAMED_AT_MOST = 8


def save_weights(folder: Path, config: ModelConfig, state_dict: Mapping[str, Tensor]) -> None:
    """Write `state_dict` (any dtype, any device) and its config into `folder`, which is made if need be.

    The same values give the same bytes. Raises ValueError naming what is missing, extra or of another shape.
    """
    check_state_dict(config, state_dict)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: state_dict[name].detach().float().cpu().contiguous() for name in expected_shapes(config)}
    save_file(tensors, folder / WEIGHTS_FILE)
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def load_weights(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Config and fp32 tensors of a folder that `save_weights` wrote.

    Raises:
        FileNotFoundError: One of the two files is not there.
        ValueError: The config, a name or a shape is wrong, in words.
    """
    config = load_config(folder)
    with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    check_state_dict(config, state_dict)
    return config, state_dict


def load_config(folder: Path) -> ModelConfig:
    """The config alone, without reading the tensors."""
    return config_from_dict(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))


def load_model(folder: Path) -> LanguageModel:
    """The model of a folder that `save_weights` wrote, in fp32 and in evaluation mode."""
    config, state_dict = load_weights(folder)
    return model_from(config, state_dict)


def model_from(config: ModelConfig, state_dict: Mapping[str, Tensor]) -> LanguageModel:
    """A model in evaluation mode that holds these very tensors: no copy, no initialisation, their dtype and device."""
    check_state_dict(config, state_dict)
    if any(tensor.dtype is torch.bfloat16 for tensor in state_dict.values()):
        provide_bf16_products()
    with torch.device("meta"):
        model = build_model(config)
    tensors = {name: state_dict[name] for name in expected_shapes(config)}
    model.load_state_dict(
        tensors, strict=False, assign=True
    )  # a tied head is not in it; the check was strict
    model.tie_weights()
    return model.eval()


def with_vocabulary(
    config: ModelConfig, state_dict: Mapping[str, Tensor], vocab_size: int
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The model for another number of ids: rows beyond it are cut off, new ones are the mean of those there are.

    At the mean a new token is as likely as an average one, so that little of what was learnt changes (Hewitt 2021,
    "Initializing New Word Embeddings for Pretrained Language Models").
    """
    assert config.vocab_size is not None, "a model that is built knows its vocabulary"
    resized = dict(state_dict)
    for name in ("embedding.weight", "lm_head.weight", "lm_head.bias"):
        if name in resized:
            rows = resized[name][:vocab_size]
            more = resized[name].float().mean(dim=0, keepdim=True).to(rows.dtype)
            missing = [more] * max(0, vocab_size - len(rows))
            resized[name] = torch.cat((rows, *missing))
    return replace(config, vocab_size=vocab_size), resized


def with_classes(
    config: ModelConfig, state_dict: Mapping[str, Tensor], classes: list[str], *, seed: int
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The model with a new head that tells these classes apart, drawn from the seed, in place of the heads it had.

    Its config is one that has `classes`.
    """
    without = {"masked_lm_head": False} if isinstance(config, BertConfig | RnnEncoderConfig) else {}
    config = replace(config, classes=classes, **without)  # type: ignore[call-arg, arg-type]  # those that have it
    head = text_head(config)
    head.init_weights(torch.Generator().manual_seed(seed))
    kept = {
        name: tensor
        for name, tensor in state_dict.items()
        if not name.startswith(("lm_head.", "classifier."))
    }
    new = {f"classifier.{name}": tensor for name, tensor in head.state_dict().items()}
    return config, kept | new


def expected_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Name and shape of every stored tensor of a model, in the model's order."""
    with torch.device("meta"):
        model = build_model(config)
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def check_state_dict(config: ModelConfig, state_dict: Mapping[str, Tensor]) -> None:
    """Raise ValueError naming the tensors that are missing, unknown or of another shape for `config`."""
    expected = expected_shapes(config)
    tied = {"lm_head.weight"} if config.tie_embeddings and config.has_lm_head else set()
    missing = [name for name in expected if name not in state_dict]
    extra = [name for name in state_dict if name not in expected and name not in tied]
    wrong = [
        f"{name} is {list(state_dict[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in state_dict and state_dict[name].shape != shape
    ]
    faults = [("missing", missing), ("not of this model", extra), ("of another shape", wrong)]
    if any(names for _, names in faults):
        words = "; ".join(f"{what}: {shortened(names)}" for what, names in faults if names)
        raise ValueError(f"the tensors do not fit the {config.architecture} config: {words}")


def shortened(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
