import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.products import has_bf16_products, replace_bf16_products

IN_A_PROCESS = """
import sys
import torch
from model.products import PRODUCTS
{}
replaced = ["products.py" in torch._C._dispatch_dump("aten::" + name) for name in PRODUCTS]
print(all(replaced), any(replaced))
"""
OF_A_RANK = "from pipeline.training.runtime import prepare_process\nprepare_process(threads=1)"
OF_A_NARROW_MODEL = """
from model.config import LlamaConfig
from model.registry import build_model
from model.weights import model_from
config = LlamaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=16, num_layers=1, num_heads=2, num_kv_heads=1, max_seq_len=8
)
model_from(config, build_model(config).to(getattr(torch, sys.argv[1])).state_dict())
"""


@pytest.fixture
def replaced():
    library = replace_bf16_products.__wrapped__()
    yield
    library._destroy()


def draw(*shape, dtype=torch.bfloat16, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


@pytest.mark.parametrize(
    ("product", "given", "settings"),
    [
        (torch.mm, [(5, 7), (7, 3)], {}),
        (torch.bmm, [(2, 5, 7), (2, 7, 3)], {}),
        (torch.addmm, [(3,), (5, 7), (7, 3)], {}),
        (torch.addmm, [(5, 3), (5, 7), (7, 3)], {"beta": 0.5, "alpha": 2}),
        (torch.baddbmm, [(2, 5, 3), (2, 5, 7), (2, 7, 3)], {"beta": 0.5}),
    ],
)
@pytest.mark.parametrize("into", [False, True])
@pytest.mark.usefixtures("replaced")
def test_a_product_is_the_one_of_fp32_rounded_once(product, given, settings, into):
    tensors = [draw(*shape) for shape in given]
    expected = product(*(each.float() for each in tensors), **settings).bfloat16()
    out = {"out": torch.empty_like(expected)} if into else {}
    found = product(*tensors, **settings, **out)
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, expected)
    assert not into or found is out["out"]


@pytest.mark.usefixtures("replaced")
def test_gradients_of_a_linear_map_are_those_of_fp32_rounded():
    x, layer, grad = draw(4, 6, 8), nn.Linear(8, 5).bfloat16(), draw(4, 6, 5)
    wide = nn.Linear(8, 5)
    wide.load_state_dict(layer.state_dict())
    given, given_wide = x.clone().requires_grad_(), x.float().requires_grad_()
    layer(given).backward(grad)
    wide(given_wide).backward(grad.float())
    assert torch.equal(given.grad, given_wide.grad.bfloat16())
    assert torch.equal(layer.weight.grad, wide.weight.grad.bfloat16())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.usefixtures("replaced")
def test_attention_is_that_of_fp32_rounded(masked):
    query, key, value, grad = (draw(2, 4, 64, 16, seed=seed) for seed in range(4))
    mask = torch.ones(64, 64, dtype=torch.bool).tril() if masked else None

    def with_gradients(dtype):
        given = [each.to(dtype, copy=True).requires_grad_() for each in (query, key, value)]
        out = F.scaled_dot_product_attention(*given, attn_mask=mask, is_causal=not masked)
        out.backward(grad.to(dtype))
        return [out.detach(), *(each.grad for each in given)]

    for narrow, wide in zip(with_gradients(torch.bfloat16), with_gradients(torch.float32), strict=True):
        assert narrow.dtype is torch.bfloat16
        torch.testing.assert_close(narrow.float(), wide, rtol=2e-2, atol=2e-2)


@pytest.mark.usefixtures("replaced")
def test_a_compiled_function_has_them_too():
    x, weight = draw(16, 32), draw(8, 32)
    found = torch.compile(F.linear, fullgraph=True)(x, weight)
    assert torch.equal(found, F.linear(x.float(), weight.float()).bfloat16())


def test_what_is_not_bf16_has_the_bits_that_torch_gives_it():
    def results():
        x, y = draw(40, 50, dtype=torch.float32), draw(50, 30, dtype=torch.float32)
        heads = draw(2, 2, 64, 16, dtype=torch.float32)
        out = torch.empty(40, 30)
        torch.mm(x, y, out=out)
        return [
            x @ y,
            torch.addmm(y[0], x, y, alpha=2),
            out,
            F.scaled_dot_product_attention(heads, heads, heads),
        ]

    before = results()
    library = replace_bf16_products.__wrapped__()
    during = results()
    library._destroy()
    for one, other in zip(before, during, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("program", "argument", "narrow"),
    [(OF_A_RANK, "", True), (OF_A_NARROW_MODEL, "bfloat16", True), (OF_A_NARROW_MODEL, "float32", False)],
)
def test_they_are_there_where_bf16_is_computed_and_the_cpu_lacks_them(program, argument, narrow):
    command = [sys.executable, "-c", IN_A_PROCESS.format(program), argument]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    needed = narrow and not has_bf16_products()
    assert said == [str(needed)] * 2
