"""The objective's sums: equal to plain cross-entropy whatever the chunks, masks, packing and dtype."""

import copy

import pytest
import torch
import torch.nn.functional as F

from model import head
from model.config import LlamaConfig
from model.objectives import CausalLM
from model.recompute import Recompute
from model.registry import build_model

VOCAB = 97


def plain_loss(model, input_ids, labels):
    return F.cross_entropy(model(input_ids).float().flatten(0, 1), labels.flatten(), reduction="sum")


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("chunk", [1, 7, 64, 4096])
@pytest.mark.parametrize("masked_fraction", [0.0, 0.1, 0.6, 1.0])
def test_chunked_loss_and_gradients_equal_plain_cross_entropy(model, monkeypatch, chunk, masked_fraction):
    monkeypatch.setattr(head, "chunk_tokens", lambda weight: chunk)
    input_ids, labels = torch.randint(VOCAB, (2, 3, 21)).unbind()
    labels[torch.rand(labels.shape) < masked_fraction] = -100
    loss_sum, num_targets, by_sequence = CausalLM(model)(input_ids, labels)[:3]
    expected = plain_loss(model, input_ids, labels)
    assert loss_sum.dtype == torch.float32
    assert num_targets.dtype == torch.int64
    assert num_targets == (labels >= 0).sum()
    torch.testing.assert_close(loss_sum, expected, rtol=1e-5, atol=1e-4)
    each = [plain_loss(model, *row) for row in zip(input_ids[:, None], labels[:, None], strict=True)]
    torch.testing.assert_close(by_sequence, torch.stack(each).detach(), rtol=1e-5, atol=1e-4)
    assert not by_sequence.requires_grad
    ours, theirs = gradients_of(model, loss_sum * 0.01), gradients_of(model, expected * 0.01)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5)


def test_chunks_are_smaller_than_a_batch_of_logits(model, monkeypatch):
    rows = []
    linear = F.linear
    monkeypatch.setattr(head.F, "linear", lambda x, w, *b: rows.append(len(x)) or linear(x, w, *b))
    monkeypatch.setattr(head, "chunk_tokens", lambda weight: 16)
    model.lm_head(torch.randn(3, 20, 32), torch.randint(VOCAB, (3, 20)))
    assert rows == [16, 16, 16, 12]


def test_evaluation_without_gradients_gives_the_same_sum(model):
    input_ids, labels = torch.randint(VOCAB, (2, 3, 21)).unbind()
    with torch.no_grad():
        without = CausalLM(model)(input_ids, labels).loss_sum
    assert without.item() == CausalLM(model)(input_ids, labels).loss_sum.item()


def test_gradients_of_a_frozen_head_reach_the_model(make_model):
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2, num_kv_heads=2
    )
    model = make_model(config)
    input_ids, labels = torch.randint(VOCAB, (2, 2, 9)).unbind()
    expected = gradients_of(model, CausalLM(model)(input_ids, labels).loss_sum)
    model.zero_grad()
    model.lm_head.weight.requires_grad = False
    CausalLM(model)(input_ids, labels).loss_sum.backward()
    assert model.lm_head.weight.grad is None
    torch.testing.assert_close(model.embedding.weight.grad, expected["embedding.weight"])


def test_packed_documents_equal_separate_ones(model):
    documents = [torch.randint(VOCAB, (n + 1,)) for n in (5, 9, 1, 6)]
    separate = [CausalLM(model)(d[None, :-1], d[None, 1:]).loss_sum for d in documents]
    expected = gradients_of(model, sum(separate))
    packed = CausalLM(model)(
        torch.cat([d[:-1] for d in documents])[None],
        torch.cat([d[1:] for d in documents])[None],
        position_ids=torch.cat([torch.arange(len(d) - 1) for d in documents])[None],
        document_ids=torch.cat([torch.full((len(d) - 1,), i) for i, d in enumerate(documents)])[None],
    )
    torch.testing.assert_close(packed.loss_sum, sum(separate), rtol=1e-5, atol=1e-4)
    for name, gradient in gradients_of(model, packed.loss_sum).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recompute", list(Recompute))
def test_activation_checkpointing_changes_nothing(model, recompute):
    input_ids, labels = torch.randint(VOCAB, (2, 3, 21)).unbind()
    kept = gradients_of(model, CausalLM(model)(input_ids, labels).loss_sum)
    model.activation_checkpointing = recompute
    for name, gradient in gradients_of(model, CausalLM(model)(input_ids, labels).loss_sum).items():
        torch.testing.assert_close(gradient, kept[name], rtol=0, atol=0)


def test_bf16_is_close_to_fp32(model):
    input_ids, labels = torch.randint(VOCAB, (2, 3, 40)).unbind()
    exact = CausalLM(model)(input_ids, labels).loss_sum
    expected = gradients_of(model, exact)
    rounded = copy.deepcopy(model).bfloat16()
    loss = CausalLM(rounded)(input_ids, labels).loss_sum
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    for name, gradient in gradients_of(rounded, loss).items():
        assert gradient.dtype == torch.bfloat16
        assert F.cosine_similarity(gradient.float().flatten(), expected[name].flatten(), dim=0) > 0.95, name


def test_bf16_is_trained_like_fp32():
    config = LlamaConfig(
        vocab_size=31, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2
    )
    input_ids = (torch.arange(24) * 7 % 31).repeat(4, 1)
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        objective = CausalLM(build_model(config)).to(dtype)
        optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
        for _ in range(30):
            loss_sum, num_targets = objective(input_ids[:, :-1], input_ids[:, 1:])[:2]
            optimizer.zero_grad()
            (loss_sum / num_targets).backward()
            optimizer.step()
        losses[dtype] = (loss_sum / num_targets).item()
    assert losses[torch.float32] < 0.1
    assert losses[torch.bfloat16] < 0.1
