"""Small shapes of each architecture, our model of each with weights far from zero, and the same in transformers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from model.base import LanguageModel
from model.config import (
    BertConfig,
    Cell,
    GPT2Config,
    LlamaConfig,
    ModelConfig,
    RnnConfig,
    RnnEncoderConfig,
    RnnSeq2SeqConfig,
    RopeKind,
    RopeScaling,
    T5Config,
    TransformerConfig,
)
from model.decoder import Decoder, decoder
from model.generation.generate import generate
from model.generation.settings import Generation
from model.hf import export_hf
from model.registry import build_model

GPT2 = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_layers": 2,
    "num_heads": 4,
    "max_seq_len": 48,
}
SHAPES: dict[str, ModelConfig] = {
    "gpt2": GPT2Config(**GPT2),
    "gpt2-untied": GPT2Config(**GPT2 | {"tie_embeddings": False}),
    "llama": LlamaConfig(**GPT2, num_kv_heads=4),
    "llama-gqa-tied": LlamaConfig(
        **GPT2 | {"tie_embeddings": True}, num_kv_heads=2, rope_theta=500000.0, norm_eps=1e-6
    ),
    "llama-mqa-wide-heads": LlamaConfig(**GPT2, num_kv_heads=1, head_dim=16),
    "llama-3.1": LlamaConfig(
        **GPT2, num_kv_heads=2, rope_scaling=RopeScaling(kind=RopeKind.llama3, factor=8.0, trained_seq_len=24)
    ),
    "llama-yarn": LlamaConfig(
        **GPT2,
        num_kv_heads=2,
        rope_scaling=RopeScaling(kind=RopeKind.yarn, factor=4.0, trained_seq_len=40, beta_fast=4.0),
    ),
    "qwen2": LlamaConfig(**GPT2, num_kv_heads=2, qkv_bias=True),
    "qwen3": LlamaConfig(**GPT2, num_kv_heads=2, head_dim=16, qk_norm=True),
    "mistral": LlamaConfig(**GPT2, num_kv_heads=2, sliding_window=7),
}
ENCODERS: dict[str, ModelConfig] = {
    "bert": BertConfig(**GPT2),
    "bert-untied": BertConfig(**GPT2 | {"tie_embeddings": False}),
    "roberta": BertConfig(**GPT2, norm_eps=1e-5, num_token_types=1),
    "distilbert": BertConfig(**GPT2, num_token_types=0),
}
PAIRS: dict[str, ModelConfig] = {
    "transformer": TransformerConfig(**GPT2),
    "transformer-untied": TransformerConfig(**GPT2 | {"tie_embeddings": False}),
    "t5": T5Config(**GPT2, head_dim=8),
    "t5-v1.1": T5Config(
        **GPT2 | {"num_heads": 3, "tie_embeddings": False},
        head_dim=12,
        num_decoder_layers=3,
        gated_mlp=True,
        relative_buckets=8,
        relative_distance=20,
    ),
}
RNN = {"vocab_size": 97, "hidden_size": 24, "num_layers": 2, "max_seq_len": 48}
RECURRENT: dict[str, ModelConfig] = {
    **{f"rnn-{cell.name}": RnnConfig(**RNN, cell=cell) for cell in Cell},
    "rnn-untied": RnnConfig(**RNN, tie_embeddings=False),
    "rnn-encoder": RnnEncoderConfig(**RNN),
    "rnn-encoder-gru": RnnEncoderConfig(**RNN, cell=Cell.gru),
    "rnn-encoder-masked": RnnEncoderConfig(**RNN, masked_lm_head=True),
    "rnn-encoder-classes": RnnEncoderConfig(**RNN, classes=["yes", "no"]),
    "rnn-encoder-masked-untied": RnnEncoderConfig(**RNN, masked_lm_head=True, tie_embeddings=False),
    "rnn-seq2seq": RnnSeq2SeqConfig(**RNN),
    "rnn-seq2seq-gru-untied": RnnSeq2SeqConfig(**RNN, cell=Cell.gru, tie_embeddings=False),
}
EVERY: dict[str, ModelConfig] = {
    **SHAPES,
    **ENCODERS,
    **PAIRS,
    **RECURRENT,
    "bert-headless": BertConfig(**GPT2, masked_lm_head=False),
    "bert-classifier": BertConfig(**GPT2, masked_lm_head=False, classes=["a", "b", "c"]),
    "gpt2-classifier": GPT2Config(**GPT2, classes=["a", "b", "c"]),
    "llama-classifier": LlamaConfig(**GPT2 | {"tie_embeddings": False}, num_kv_heads=2, classes=["a", "b"]),
    "qwen2-regressor": LlamaConfig(**GPT2, num_kv_heads=2, qkv_bias=True, classes=["depth"]),
}

GIVEN = ("eos_ids", "start_id", "decode", "on_token")
"Arguments of `generate` that are no settings."


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=SHAPES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return SHAPES[request.param]


@pytest.fixture
def model(config: ModelConfig) -> Decoder:
    return decoder(random_model(config))


@pytest.fixture(params=EVERY)
def any_config(request: pytest.FixtureRequest) -> ModelConfig:
    """Of every architecture, decoder or not."""
    return EVERY[request.param]


@pytest.fixture
def any_model(any_config: ModelConfig) -> LanguageModel:
    return random_model(any_config)


@pytest.fixture(params=PAIRS | {name: each for name, each in RECURRENT.items() if "seq2seq" in name})
def pair_config(request: pytest.FixtureRequest) -> ModelConfig:
    """Of an encoder-decoder."""
    return EVERY[request.param]


@pytest.fixture(params=SHAPES | {name: each for name, each in RECURRENT.items() if each.is_causal})
def decoder_config(request: pytest.FixtureRequest) -> ModelConfig:
    return EVERY[request.param]


@pytest.fixture(params=SHAPES | ENCODERS | {name: each for name, each in RECURRENT.items() if each.is_causal})
def one_stack(request: pytest.FixtureRequest) -> ModelConfig:
    """Of a decoder or an encoder."""
    return EVERY[request.param]


@pytest.fixture(params=[name for name in EVERY if not name.startswith(("rnn", "transformer"))])
def exportable(request: pytest.FixtureRequest) -> LanguageModel:
    """Of a family that transformers has."""
    return random_model(EVERY[request.param])


WRITERS: dict[str, tuple[ModelConfig, float]] = {
    "gpt2": (GPT2Config(**GPT2), 0.2),
    "llama": (LlamaConfig(**GPT2, num_kv_heads=2), 0.4),
    "mistral": (LlamaConfig(**GPT2, num_kv_heads=2, sliding_window=7), 0.4),
    "t5": (T5Config(**GPT2, head_dim=24), 1.0),
    "t5-v1.1": (T5Config(**GPT2 | {"tie_embeddings": False}, head_dim=8, gated_mlp=True), 0.5),
}
"Shapes, and how far from initial weights they answer variously."


@pytest.fixture(params=WRITERS)
def exportable_writer(request: pytest.FixtureRequest) -> LanguageModel:
    """A decoder or an encoder-decoder that transformers has too."""
    config, noise = WRITERS[request.param]
    return random_model(config, noise=noise)


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> LanguageModel:
    return random_model(ENCODERS[request.param])


@pytest.fixture
def to_reference(tmp_path: Path) -> Callable[..., PreTrainedModel]:
    """Export a model with our converter and load it with transformers."""

    def load(model: LanguageModel, kind: type = AutoModelForCausalLM, **special: int) -> PreTrainedModel:
        folder = tmp_path / "export"
        export_hf(model.state_dict(), model.config, folder, **special)
        loaded, report = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
        assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        return loaded.eval()

    return load


@pytest.fixture
def write() -> Callable[..., list[list[int]]]:
    """`generate`, with settings as keywords."""

    def written(model: LanguageModel, prompts: Sequence[Sequence[int]], **options: Any) -> list[list[int]]:
        given = {name: options.pop(name) for name in GIVEN if name in options}
        return generate(model, prompts, Generation(**options), **given)

    return written


@pytest.fixture
def make_model() -> Callable[..., LanguageModel]:
    return random_model


def random_model(config: ModelConfig, *, seed: int = 0, noise: float = 0.2) -> LanguageModel:
    """Weights ten times as large as at initialisation, norms and biases too, so that every term shows in the logits."""
    torch.manual_seed(seed)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * noise)
    return model.eval()
