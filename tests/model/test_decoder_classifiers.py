"""Decoders that say what a text is: equal to the same models of transformers, both ways, with padding on the right."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

from model.config import GPT2Config, LlamaConfig
from model.decoder import decoder
from model.generation.generate import generate
from model.generation.settings import Generation
from model.hf import auto_class, export_hf, import_hf
from model.objectives import OwnClassification, OwnRegression
from model.weights import check_state_dict, model_from, with_classes
from tests.model.conftest import GPT2, SHAPES, random_model

PAD = 96
CLASSES = ["a", "b", "c"]
KINDS = {
    "gpt2": SHAPES["gpt2"],
    "gpt2-untied": SHAPES["gpt2-untied"],
    "llama": SHAPES["llama-gqa-tied"],
    "qwen2": SHAPES["qwen2"],
    "qwen3": SHAPES["qwen3"],
    "mistral": SHAPES["mistral"],
}


@pytest.fixture(params=KINDS)
def pair(request, tmp_path):
    """Ours, and the exported folder as transformers loads it."""
    ours = random_model(replace(KINDS[request.param], classes=CLASSES))
    assert auto_class(ours.config) == "AutoModelForSequenceClassification"
    export_hf(ours.state_dict(), ours.config, tmp_path, pad_id=PAD)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path, local_files_only=True).eval()
    return ours, theirs, tmp_path


def padded_batch():
    """[4, 13] ids of different lengths, the padding on the right, and their mask."""
    lengths = torch.tensor([13, 5, 1, 9])
    mask = (torch.arange(13) < lengths[:, None]).long()
    return torch.randint(PAD, (4, 13)).where(mask.bool(), PAD), mask


def test_logits_loss_and_gradients_equal_theirs(pair):
    ours, theirs, folder = pair
    ids, mask = padded_batch()
    labels = torch.tensor([0, 2, 1, 1])
    objective = OwnClassification(ours).train()
    torch.testing.assert_close(
        objective.logits(ids, mask), theirs(ids, attention_mask=mask).logits, rtol=1e-4, atol=1e-4
    )
    found = objective(ids, labels, mask)
    expected = theirs(ids, attention_mask=mask, labels=labels).loss * len(labels)
    torch.testing.assert_close(found.loss_sum, expected, rtol=1e-4, atol=1e-4)
    found.loss_sum.backward()
    expected.backward()
    theirs_of = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    torch.testing.assert_close(
        ours.classifier.output.weight.grad, theirs_of["score.weight"], rtol=1e-4, atol=1e-4
    )
    (embedding,) = (
        grad for name, grad in theirs_of.items() if name.endswith(("wte.weight", "embed_tokens.weight"))
    )
    torch.testing.assert_close(ours.embedding.weight.grad, embedding, rtol=1e-4, atol=1e-4)
    config, tensors = import_hf(folder)
    assert config.classes == CLASSES
    assert all(torch.equal(tensors[name], each) for name, each in ours.state_dict().items())


def test_padding_changes_nothing(pair):
    ours, _, _ = pair
    ids, mask = padded_batch()
    logits = OwnClassification(ours).logits
    alone = [logits(row[None, :n]) for row, n in zip(ids, mask.sum(dim=1), strict=True)]
    torch.testing.assert_close(logits(ids, mask), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_their_random_model_is_imported(pair, tmp_path):
    _, theirs, folder = pair
    torch.manual_seed(7)
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.2)
    theirs.save_pretrained(tmp_path / "theirs")
    config, tensors = import_hf(tmp_path / "theirs")
    assert config.classes == CLASSES
    ids, mask = padded_batch()
    found = OwnClassification(model_from(config, tensors)).logits(ids, mask)
    torch.testing.assert_close(found, theirs(ids, attention_mask=mask).logits, rtol=1e-4, atol=1e-4)
    assert folder.exists()


def test_a_number_is_the_squared_error_of_theirs(tmp_path):
    ours = random_model(LlamaConfig(**GPT2, num_kv_heads=2, classes=["depth"]))
    export_hf(ours.state_dict(), ours.config, tmp_path, pad_id=PAD)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path, local_files_only=True).eval()
    ids, mask = padded_batch()
    labels = torch.tensor([0.5, -1.0, 2.0, 0.0])
    found = OwnRegression(ours).train()(ids, labels, mask)
    expected = theirs(ids, attention_mask=mask, labels=labels[:, None]).loss * 4
    torch.testing.assert_close(found.loss_sum, expected, rtol=1e-4, atol=1e-4)


def test_a_head_for_classes_takes_the_place_of_the_one_for_tokens():
    before = random_model(SHAPES["gpt2-untied"])
    config, tensors = with_classes(before.config, before.state_dict(), ["x", "y"], seed=3)
    check_state_dict(config, tensors)
    assert "lm_head.weight" not in tensors
    assert tensors["classifier.output.weight"].shape == (2, GPT2["hidden_size"])
    assert torch.equal(tensors["embedding.weight"], before.embedding.weight)
    again = with_classes(before.config, before.state_dict(), ["x", "y"], seed=3)[1]
    assert torch.equal(tensors["classifier.output.weight"], again["classifier.output.weight"])


def test_it_writes_no_text():
    model = random_model(GPT2Config(**GPT2, classes=CLASSES))
    with pytest.raises(ValueError, match="gpt2 model with classes writes no text"):
        generate(model, [[1, 2]], Generation(max_new_tokens=1))
    with pytest.raises(ValueError, match="gpt2 model with classes does not continue text"):
        decoder(model)


def test_a_perfect_head_is_learnt_quickly():
    """Of two kinds of texts, in a few steps; a check that gradients reach every block."""
    model = random_model(GPT2Config(**GPT2, classes=["low", "high"]), noise=0.0).train()
    objective = OwnClassification(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    labels = torch.arange(16) % 2
    ids = torch.randint(40, (16, 8)) + 50 * labels[:, None]
    for _ in range(30):
        loss = objective(ids, labels).loss_sum
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert F.cross_entropy(objective.logits(ids), labels) < 0.1
