"""Logits, losses and gradients equal those of transformers, through our own converter."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from model.hf import import_hf
from model.objectives import CausalLM
from model.weights import model_from

VOCAB = 97


@pytest.mark.parametrize("num_tokens", [1, 17, 48])
def test_logits_equal(model, to_reference, num_tokens):
    input_ids = torch.randint(VOCAB, (3, num_tokens))
    with torch.no_grad():
        ours, theirs = model(input_ids), to_reference(model)(input_ids).logits
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_loss_and_every_gradient_equal(model, to_reference, tmp_path):
    reference = to_reference(model)
    input_ids, labels = torch.randint(VOCAB, (2, 3, 40)).unbind()
    labels[0, :7] = -100
    ours = CausalLM(model)(input_ids, labels)
    theirs = F.cross_entropy(reference(input_ids).logits.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(ours.loss_sum, theirs, rtol=1e-5, atol=1e-4)
    ours.loss_sum.backward()
    theirs.backward()
    reference.load_state_dict({name: p.grad for name, p in reference.named_parameters()}, strict=False)
    reference.save_pretrained(tmp_path / "gradients")
    _, expected = import_hf(tmp_path / "gradients")
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_their_random_model_imports_with_equal_logits(model, to_reference, tmp_path):
    reference = AutoModelForCausalLM.from_config(to_reference(model).config).eval()
    reference.save_pretrained(tmp_path / "theirs")
    config, state_dict = import_hf(tmp_path / "theirs")
    assert config.to_dict() | {"head_dim": None} == model.config.to_dict() | {"head_dim": None}
    input_ids = torch.randint(VOCAB, (2, 20))
    with torch.no_grad():
        ours, theirs = model_from(config, state_dict)(input_ids), reference(input_ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_positions_given_equal_theirs(model, to_reference):
    input_ids = torch.randint(VOCAB, (2, 10))
    position_ids = torch.randint(48, (2, 10))
    with torch.no_grad():
        ours = model(input_ids, position_ids=position_ids)
        # eager attention of transformers reads repeated positions as packed documents unless it has a mask
        theirs = to_reference(model)(
            input_ids, position_ids=position_ids, attention_mask=torch.ones(2, 10)
        ).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
