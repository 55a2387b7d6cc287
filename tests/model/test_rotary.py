"""Stretched rotary wavelengths: equal to transformers beyond the trained length, and what each kind is for."""

import dataclasses

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from model.config import LlamaConfig, RopeKind, RopeScaling, config_from_dict
from model.hf import import_hf
from model.hf.llama import to_hf_config
from model.rotary import rotary_angles

VOCAB = 97
CONFIG = LlamaConfig(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=80,
    num_layers=2,
    num_heads=2,
    num_kv_heads=2,
    max_seq_len=64,
)
SCALINGS = {
    "linear": RopeScaling(kind=RopeKind.linear, factor=2.5),
    "dynamic": RopeScaling(kind=RopeKind.dynamic, factor=4.0, trained_seq_len=16),
    "yarn": RopeScaling(kind=RopeKind.yarn, factor=4.0, trained_seq_len=16),
    "yarn-ramp": RopeScaling(
        kind=RopeKind.yarn, factor=4.0, trained_seq_len=40, beta_fast=3.0, beta_slow=0.5
    ),
    "llama3": RopeScaling(kind=RopeKind.llama3, factor=8.0, trained_seq_len=20),
    "llama3-ramp": RopeScaling(
        kind=RopeKind.llama3, factor=8.0, trained_seq_len=64, low_frequency=0.5, high_frequency=3.0
    ),
}


@pytest.fixture(params=SCALINGS)
def config(request):
    return dataclasses.replace(CONFIG, rope_scaling=SCALINGS[request.param])


@pytest.mark.parametrize("num_tokens", [5, 33, 64])
def test_logits_equal_also_beyond_the_trained_length(make_model, config, to_reference, num_tokens):
    model, input_ids = make_model(config), torch.randint(VOCAB, (2, num_tokens))
    with torch.no_grad():
        ours, theirs = model(input_ids), to_reference(model)(input_ids).logits
        plain = make_model(CONFIG)(input_ids)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    if num_tokens > 16:
        assert not torch.allclose(ours, plain, rtol=1e-2, atol=1e-2)


def test_their_config_comes_back(make_model, config, to_reference, tmp_path):
    AutoModelForCausalLM.from_config(to_reference(make_model(config)).config).save_pretrained(
        tmp_path / "theirs"
    )
    found, _ = import_hf(tmp_path / "theirs")
    assert dataclasses.replace(found, head_dim=None) == config


def test_dictionaries_round_trip(config):
    assert config_from_dict(config.to_dict()) == config


@pytest.mark.parametrize("kind", ["yarn", "llama3"])
def test_published_settings_give_the_published_wavelengths(kind):
    """Llama 3.1 8B, and Qwen 2.5's YaRN of factor 4, at every position's angle."""
    from transformers import LlamaConfig as Theirs

    scaling = {
        "llama3": RopeScaling(kind=RopeKind.llama3, factor=8.0, trained_seq_len=8192),
        "yarn": RopeScaling(kind=RopeKind.yarn, factor=4.0, trained_seq_len=32768),
    }[kind]
    config = LlamaConfig(
        vocab_size=8, head_dim=128, rope_theta=500000.0, max_seq_len=131072, rope_scaling=scaling
    )
    theirs, longer = ROPE_INIT_FUNCTIONS[kind](Theirs(**to_hf_config(config)), device=torch.device("cpu"))
    positions = torch.tensor([0, 1, 77, 8191])
    cos, sin = rotary_angles(positions, head_dim=128, theta=500000.0, scaling=scaling)
    angles = positions[:, None] * theirs
    torch.testing.assert_close(cos[:, 0], angles.cos() * longer, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(sin[:, 0], angles.sin() * longer, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("scaling", "field", "what"),
    [
        (RopeScaling(kind=RopeKind.linear, factor=0.5), "factor", "would shorten"),
        (RopeScaling(kind=RopeKind.yarn, factor=2.0), "trained_seq_len", "yarn starts from a length"),
        (RopeScaling(low_frequency=5.0), "low_frequency", "make no range"),
        (RopeScaling(beta_slow=0.0), "beta_slow", "make no range"),
    ],
)
def test_a_wrong_scaling_is_named(scaling, field, what):
    (problem,) = dataclasses.replace(CONFIG, rope_scaling=scaling).problems()
    assert problem.field == f"rope_scaling.{field}"
    assert what in problem.what
    assert problem.do


def test_an_unknown_kind_and_field_are_explained():
    values = CONFIG.to_dict()
    for wrong, words in (
        ({"kind": "yarm"}, 'kind "yarm" is unknown; did you mean "yarn"'),
        ({"facto": 2.0}, "facto"),
    ):
        with pytest.raises(ValueError, match=words):
            config_from_dict(values | {"rope_scaling": wrong})
