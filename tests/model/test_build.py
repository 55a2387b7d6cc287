"""Building: unknown names, the meta device, initialisation, tied embeddings."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.config import GPT2Config, LlamaConfig, ModelConfig
from model.registry import build_model

WIDE = {"vocab_size": 2000, "hidden_size": 256, "intermediate_size": 512, "num_layers": 8, "num_heads": 4}


def test_an_unknown_architecture_is_explained():
    with pytest.raises(ValueError, match=r'unknown architecture "gtp2"; did you mean "gpt2"\?'):
        build_model(ModelConfig(architecture="gtp2", vocab_size=10))


def test_sizes_that_do_not_fit_are_explained():
    with pytest.raises(ValueError, match="cannot be divided"):
        build_model(GPT2Config(vocab_size=10, hidden_size=770))


def test_the_meta_device_becomes_the_model_that_is_built_at_once(any_config):
    torch.manual_seed(5)
    expected = build_model(any_config)
    with torch.device("meta"):
        model = build_model(any_config)
    assert all(parameter.is_meta for parameter in model.parameters())
    model.to_empty(device="cpu")
    torch.manual_seed(5)
    model.init_weights()
    assert model.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=0, atol=0)


def test_initialisation_follows_its_generator(any_config):
    models = [build_model(any_config) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        model.init_weights(torch.Generator().manual_seed(seed))
    first, again, other = (model.embedding.weight for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "config", [GPT2Config(**WIDE), LlamaConfig(**WIDE, num_kv_heads=2)], ids=["gpt2", "llama"]
)
def test_initial_scales_are_the_papers(config):
    model = build_model(config)
    into_stream = 0.02 / math.sqrt(2 * config.num_layers)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name
        else:
            expected = into_stream if name.endswith(("output.weight", "down.weight")) else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.02), name


def test_the_first_loss_is_that_of_a_uniform_guess(config):
    from model.objectives import CausalLM

    torch.manual_seed(0)
    loss_sum, num_targets = CausalLM(build_model(config))(*torch.randint(97, (2, 8, 48)).unbind())[:2]
    assert (loss_sum / num_targets).item() == pytest.approx(math.log(97), abs=0.05)


def test_tied_embeddings_are_one_parameter_also_after_to_empty(any_config):
    with torch.device("meta"):
        model = build_model(any_config)
    model.to_empty(device="cpu")
    model.init_weights()
    names = dict(model.named_parameters())
    if any_config.has_lm_head:
        assert (model.lm_head.weight is model.embedding.weight) == any_config.tie_embeddings
        assert ("lm_head.weight" in names) == (not any_config.tie_embeddings)
    else:
        assert not any(name.startswith("lm_head") for name in names)


WITHOUT_COMPILER = """
import sys
from model.config import CONFIGS, GPT2Config
from model.generation.generate import generate
from model.generation.settings import Generation
from model.registry import build_model
from model.weights import expected_shapes, model_from

for config in CONFIGS.values():
    assert expected_shapes(config(vocab_size=8))
config = GPT2Config(vocab_size=8, hidden_size=8, num_layers=1, num_heads=1)
model = model_from(config, build_model(config).state_dict())
assert generate(model, [[1, 2]], Generation(max_new_tokens=3))
assert "torch._dynamo" not in sys.modules
"""


def test_neither_looking_at_a_model_nor_using_it_loads_the_compiler():
    """Which takes seconds, and which torch does to fill weights on the meta device."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", WITHOUT_COMPILER], check=True, env=environment)
