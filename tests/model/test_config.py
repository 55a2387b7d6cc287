"""Model configs: wrong sizes are named, dictionaries round-trip, and importing them costs no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from model.config import CONFIGS, GPT2Config, LlamaConfig, config_from_dict

ROOT = Path(__file__).parents[2]


def test_the_defaults_have_no_problems():
    for config in CONFIGS.values():
        assert config().problems() == []


@pytest.mark.parametrize(
    ("config", "field", "what", "allowed"),
    [
        (
            GPT2Config(hidden_size=770),
            "hidden_size",
            "770 cannot be divided among 12",
            "multiple of num_heads",
        ),
        (GPT2Config(num_layers=0), "num_layers", "num_layers is 0", "positive"),
        (GPT2Config(vocab_size=-5), "vocab_size", "vocab_size is -5", "positive"),
        (GPT2Config(norm_eps=0.0), "norm_eps", "norm_eps is 0.0", "positive"),
        (GPT2Config(num_heads=0), "num_heads", "num_heads is 0", "positive"),
        (GPT2Config(architecture="llama"), "architecture", "does not fit", "gpt2"),
        (LlamaConfig(num_kv_heads=5), "num_kv_heads", "32 query heads cannot share 5", "1, 2, 4, 8, 16, 32"),
        (LlamaConfig(num_kv_heads=0), "num_kv_heads", "num_kv_heads is 0", "positive"),
        (LlamaConfig(rope_theta=-1.0), "rope_theta", "rope_theta is -1.0", "positive"),
        (LlamaConfig(head_dim=63), "head_dim", "63 wide", "even"),
        (LlamaConfig(hidden_size=96), "num_heads", "3 wide", "even"),
    ],
)
def test_a_wrong_size_is_named(config, field, what, allowed):
    (problem,) = config.problems()
    assert problem.field == field
    assert what in problem.what
    assert allowed in problem.allowed
    assert problem.do


def test_what_is_proposed_for_the_hidden_size_is_allowed():
    (problem,) = GPT2Config(hidden_size=770).problems()
    assert GPT2Config(hidden_size=int(problem.do.split()[-1])).problems() == []


def test_the_vocabulary_holds_the_tokenizers_ids():
    assert GPT2Config(vocab_size=100).vocab_problems(100) == []
    assert GPT2Config(vocab_size=None).vocab_problems(100) == []
    (problem,) = GPT2Config(vocab_size=100).vocab_problems(101)
    assert "smaller than the tokenizer's 101 ids" in problem.what


def test_the_vocabulary_is_the_tokenizers_unless_set():
    assert GPT2Config().with_vocab_size(300).vocab_size == 300
    assert GPT2Config(vocab_size=512).with_vocab_size(300).vocab_size == 512


@pytest.mark.parametrize("config", [GPT2Config(vocab_size=7), LlamaConfig(head_dim=64, num_kv_heads=8)])
def test_dictionaries_round_trip(config):
    assert config_from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"architecture": "lama"}, 'unknown architecture "lama"; did you mean "llama"?'),
        ({}, 'unknown architecture ""; known: gpt2, llama, bert, transformer, t5, rnn, rnn_encoder, rnn_seq2seq'),
        ({"architecture": "gpt2", "num_layer": 3}, 'field "num_layer" of a gpt2 model; did you mean "num_layers"?'),
        ({"architecture": "gpt2", "num_kv_heads": 3}, 'unknown field "num_kv_heads" of a gpt2 model'),
        ({"architecture": "gpt2", "hidden_size": 770}, "cannot be divided"),
    ],
)  # fmt: skip
def test_a_wrong_dictionary_is_explained(values, words):
    with pytest.raises(ValueError, match=r".") as error:
        config_from_dict(values)
    assert words in str(error.value)


def test_configs_import_no_torch():
    code = "import sys, model.config, model.flops; print({'torch', 'numpy', 'transformers'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
