"""Hugging Face folders: written so that `AutoModel*.from_pretrained` gives equal logits, and read back.

Only safetensors: a pickle checkpoint (.bin, .pt) can run any code while it is read.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import ModelConfig
from model.hf.families import Family, family_of, from_hf_config
from model.hf.source import Source
from model.weights import check_state_dict, shortened

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def export_hf(
    state_dict: Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    bos_id: int | None = None,
    eos_id: int | None = None,
    pad_id: int | None = None,
) -> None:
    """Write config.json, generation_config.json and model.safetensors into `folder`, which is made if need be.

    Args:
        state_dict: the model's tensors under our names.
        config: the model's.
        folder: files of these names in it are replaced.
        dtype: of the written tensors; None: as they are, if they are all of one dtype.
        bos_id: id of the token a text begins with; None is written as null, meaning none.
        eos_id: likewise, that it ends with: generation stops there.
        pad_id: likewise, that fills batches.

    Raises:
        ValueError: Tensors are missing, extra, of another shape, or of several dtypes and none is asked for.
    """
    check_state_dict(config, state_dict)
    family = family_of(config, pad_id=pad_id)
    tensors = dict(_to_hf(state_dict, family, dtype=dtype))
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    if len(dtypes) > 1:
        raise ValueError(
            f"tensors of several dtypes ({', '.join(sorted(dtypes))}): say in which to export them"
        )
    tokens = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": pad_id}
    (name,) = dtypes
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})  # transformers reads the format
    values = family.hf_config()
    _write_json(folder / "config.json", tokens | values | {"dtype": name, "torch_dtype": name})
    start = {key: values[key] for key in ("decoder_start_token_id",) if key in values}
    _write_json(folder / "generation_config.json", tokens | start)


def import_hf(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Our config, and the tensors under our names in the dtype they are stored in.

    Raises:
        FileNotFoundError: No config.json.
        ValueError: A pickle checkpoint, a variant that our models do not compute, or tensors missing or extra.
    """
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = from_hf_config(values)
    family = family_of(config, pad_id=values.get("pad_token_id"))
    stored = {family.full_name(name): tensor for name, tensor in _stored_tensors(folder)}
    for name, other in family.stand_ins.items():
        if name not in stored and other in stored:
            stored[name] = stored[other]
    table = family.sources
    expected = {name for source in table.values() for name in source.names}
    missing = sorted(expected - stored.keys())
    extra = sorted(name for name in stored.keys() - expected if not family.is_left_out(name))
    if missing or extra:
        faults = [("missing", missing), ("unknown", extra)]
        words = "; ".join(f"{what}: {shortened(names)}" for what, names in faults if names)
        raise ValueError(f"the tensors in {folder} do not fit its config.json: {words}")
    state_dict = {ours: _join(source, stored) for ours, source in table.items()}
    check_state_dict(config, state_dict)
    return config, state_dict


def _to_hf(
    state_dict: Mapping[str, Tensor], family: Family, *, dtype: torch.dtype | None
) -> Iterator[tuple[str, Tensor]]:
    for ours, source in family.sources.items():
        tensor = state_dict[ours].detach().cpu().to(dtype or state_dict[ours].dtype)
        if source.transposed:
            tensor = tensor.T
        if source.unused_rows:
            tensor = torch.cat((tensor.new_zeros(source.unused_rows, *tensor.shape[1:]), tensor))
        parts = torch.split(tensor, list(source.rows)) if source.rows else [tensor]
        for name, part in zip(source.names, parts, strict=True):
            yield name, part.contiguous()
        for name in source.copies:
            yield name, tensor.clone()


def _join(source: Source, stored: Mapping[str, Tensor]) -> Tensor:
    parts = [stored[name] for name in source.names]
    tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
    if source.unused_rows:
        tensor = tensor[source.unused_rows :].contiguous()
    return tensor.T.contiguous() if source.transposed else tensor


def _stored_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield name, opened.get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX_FILE).exists():
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        return [folder / name for name in sorted(set(index["weight_map"].values()))]
    if (folder / WEIGHTS_FILE).exists():
        return [folder / WEIGHTS_FILE]
    pickles = sorted(
        path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".ckpt"}
    )
    if pickles:
        convert = "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        raise ValueError(
            f"{shortened(pickles)} in {folder} is a pickle, which can run any code when read; "
            f"if you trust its source, convert it to safetensors with transformers: {convert}"
        )
    raise ValueError(f"no {WEIGHTS_FILE} in {folder}")


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
