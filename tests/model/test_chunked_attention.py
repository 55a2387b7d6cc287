import pytest
import torch
from torch import Tensor

from model import chunked_attention
from model.chunked_attention import MAX_SCORES, causal_attention, takes
from model.layers import attention

SHAPES = [  # B, T, H, K, D
    (2, 64, 4, 4, 8),
    (2, 100, 6, 2, 16),
    (1, 129, 4, 1, 8),
    (3, 300, 8, 4, 16),
    (1, 2, 1, 1, 4),
]


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, key, value, and a gradient of the output."""
    rows, length, num_heads, num_keys, size = shape
    made = torch.Generator().manual_seed(sum(shape))
    heads = (num_heads, num_keys, num_keys)
    given = [
        torch.randn(rows, length, each, size, generator=made).to(dtype).requires_grad_() for each in heads
    ]
    return [*given, torch.randn(rows, length, num_heads * size, generator=made).to(dtype)]


def results(attend, query: Tensor, key: Tensor, value: Tensor, grad: Tensor) -> list[Tensor]:
    """The output and three gradients."""
    out = attend(query, key=key, value=value)
    return [out, *torch.autograd.grad(out, (query, key, value), grad)]


def exact(query: Tensor, *, key: Tensor, value: Tensor) -> Tensor:
    return attention(query, key=key, value=value, mask=None)


@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_gradients_are_those_of_torch(shape):
    given = drawn(shape)
    for mine, theirs in zip(results(causal_attention, *given), results(exact, *given), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_in_bf16_it_is_as_near_as_that_precision_is():
    given = drawn((2, 256, 4, 2, 32), torch.bfloat16)
    wanted = results(exact, *(each.detach().double().requires_grad_() for each in given))
    for mine, theirs in zip(results(causal_attention, *given), wanted, strict=True):
        assert (mine - theirs).norm() < 0.015 * theirs.norm()


def test_the_future_is_not_seen():
    query, key, value, _ = drawn((1, 200, 2, 2, 8))
    before = causal_attention(query, key=key, value=value)
    with torch.no_grad():
        key[:, 130:], value[:, 130:] = 9.0, -9.0
    after = causal_attention(query, key=key, value=value)
    assert torch.equal(before[:, :130], after[:, :130])
    assert not torch.equal(before[:, 130:], after[:, 130:])


def asked_while_compiling(query: Tensor, mask: Tensor | None) -> bool:
    def question(query: Tensor) -> Tensor:
        return query.new_full((1,), float(takes(query, mask)))

    return bool(torch.compile(question, backend="eager", dynamic=False)(query))


def test_it_is_for_what_is_compiled_for_a_cpu_and_not_too_large():
    query = torch.zeros(1, 64, 2, 8)
    assert asked_while_compiling(query, None)
    assert not takes(query, None)
    assert not asked_while_compiling(query, torch.ones(1, 1, 64, 64, dtype=torch.bool))
    assert not asked_while_compiling(torch.zeros(1, 1, 2, 8), None)
    many = MAX_SCORES // (16 * 64)  # heads, each with 16 x 64 scores
    assert asked_while_compiling(torch.zeros(1, 64, 1, 1).expand(1, 64, many // 4, 1), None)
    assert not asked_while_compiling(torch.zeros(1, 64, 1, 1).expand(1, 64, many // 4 + 1, 1), None)


def test_a_compiled_attention_is_this_one(monkeypatch):
    calls = []
    monkeypatch.setattr(chunked_attention, "CHUNKS", 2)
    given = drawn((2, 256, 4, 2, 8))
    compiled = torch.compile(exact, backend="aot_eager", dynamic=False)

    def counted(query: Tensor, *, key: Tensor, value: Tensor) -> Tensor:
        calls.append(query.shape)
        return causal_attention(query, key=key, value=value)

    monkeypatch.setattr(chunked_attention, "causal_attention", counted)
    for mine, theirs in zip(results(compiled, *given), results(exact, *given), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert calls
