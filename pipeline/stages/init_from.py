"""Weights to begin from: an export, a Hugging Face folder, or a name on the hub, as a weights folder of ours."""

import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import ModelConfig, config_from_dict
from pipeline.dag.folder import Folder
from pipeline.dag.stage import ExternalFile, Problem
from pipeline.errors import ConfigError
from pipeline.training.objective import ARCHITECTURES, objective_of_classes

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
ALLOWED = "a folder with config.json and safetensors, or a name on the Hugging Face hub"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def init_problems(init_from: str) -> list[Problem]:
    """What can be told of it without asking the hub."""
    if Path(init_from).expanduser().is_dir() or HUB_NAME.fullmatch(init_from):
        return []
    return [Problem("init_from", f'there is no folder "{init_from}"', ALLOWED, "correct the path")]


def local_folder(init_from: str) -> Path:
    """The folder itself, or where the hub's files lie once they are here.

    Raises:
        ConfigError: there is no such folder, and nothing on the hub that can be had.
    """
    path = Path(init_from).expanduser()
    if path.is_dir():
        return path
    if problems := init_problems(init_from):
        raise _not_found(init_from, problems[0].what)
    from transformers.utils import cached_file  # slow, and only for names on the hub

    try:
        found = Path(str(cached_file(init_from, CONFIG)))
        for name in (INDEX, *TOKENIZER):
            cached_file(init_from, name, _raise_exceptions_for_missing_entries=False)
        for name in weight_files(found.parent):
            cached_file(init_from, name)
    except (OSError, ValueError) as error:
        raise _not_found(init_from, str(error).splitlines()[0]) from error
    return found.parent


def config_ahead(init_from: str) -> ModelConfig | None:
    """The model's config, where it lies on this machine and is one of ours; nothing is fetched for it."""
    folder = Path(init_from).expanduser()
    if (folder / "model.json").is_file():
        return config_from_dict(json.loads((folder / "model.json").read_text(encoding="utf-8")))
    if not (folder / CONFIG).is_file():
        return None
    from model.hf.families import from_hf_config

    with suppress(ValueError):  # which the import will say
        return from_hf_config(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    return None


def weight_files(folder: Path) -> list[str]:
    """The names of the safetensors files, by the index where there is one."""
    if not (folder / INDEX).exists():
        return [WEIGHTS]
    return sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))


def files_of(init_from: str) -> list[ExternalFile]:
    """What of the folder decides the weights: its config, its tensors and its tokenizer."""
    folder = local_folder(init_from)
    names = [CONFIG, "model.json", INDEX, *weight_files(folder), *TOKENIZER]
    return [ExternalFile(name, str(folder / name)) for name in names if (folder / name).is_file()]


@dataclass(frozen=True)
class Changes:
    """What is to be another than in the weights that are given."""

    tokenizer: Folder | None = None
    "In place of the model's own."
    classes: Sequence[str] = ()
    "Of a head for whole texts: a new one, where the model has none that knows them."
    seed: int = 0
    "That the new head is drawn from."
    shrink: bool = False
    "Whether ids beyond the tokenizer's last lose their rows."


def import_weights(given: Folder, target: Folder, changes: Changes) -> dict[str, Any]:
    """In a worker: an exported folder as a weights folder with its tokenizer, or with another one.

    A vocabulary that another tokenizer has outgrown gets more rows.

    Raises:
        ConfigError: tensors that do not fit, a pickle, an architecture that is none of ours.
        DataError: there is no tokenizer that can be read.
    """
    from data.tokenizer import Tokenizer
    from model.weights import save_weights, with_vocabulary

    folder = given.local()
    config, state_dict = _read(folder, given.url)
    own = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    used = Tokenizer.load(own if changes.tokenizer is None else changes.tokenizer.local())
    if used.vocab_size > (config.vocab_size or 0) or changes.shrink:
        config, state_dict = with_vocabulary(config, state_dict, used.vocab_size)
    if changes.classes:
        config, state_dict = _with_classes(config, state_dict, list(changes.classes), changes.seed)
    with tempfile.TemporaryDirectory() as temporary:
        save_weights(Path(temporary), config, state_dict)
        used.save(Path(temporary) / "tokenizer")
        target.upload_all(Path(temporary))
    return {}


def _with_classes(config: Any, state_dict: Any, classes: list[str], seed: int) -> Any:
    from model.weights import with_classes

    if config.architecture not in ARCHITECTURES[objective_of_classes(classes)]:
        raise ConfigError(
            f"a {config.architecture} model has no head that tells classes apart",
            where="classes",
            allowed=", ".join(ARCHITECTURES[objective_of_classes(classes)]),
            do="begin from one of these, or leave classes empty and let the model write the answer",
        )
    if config.classes == classes:
        return config, state_dict
    return with_classes(config, state_dict, classes, seed=seed)


def _read(folder: Path, where: str) -> Any:
    from model.hf import import_hf
    from model.weights import load_weights

    try:
        return load_weights(folder) if (folder / "model.json").exists() else import_hf(folder)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(
            f"the weights to begin from cannot be read: {error}",
            where=where,
            allowed="a folder with config.json and safetensors of a family that Headrace computes, or one it exported",
            do="begin from another folder, or save this one anew with transformers' save_pretrained",
        ) from error


def _not_found(init_from: str, why: str) -> ConfigError:
    return ConfigError(
        f'there is nothing to begin from at "{init_from}": {why}',
        where="init_from",
        allowed=ALLOWED,
        do="correct the path, or download the model beforehand where there is no network",
    )
