"""What a step of generation computes in ways of its own is what the usual ways give."""

import pytest
import torch
import torch.nn.functional as F

from model.layers import FEW_ROWS, Linear, RMSNorm, attention, full_attention

CLOSE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.bfloat16: {"rtol": 2e-2, "atol": 2e-2}}
DTYPES = pytest.mark.parametrize("dtype", CLOSE, ids=["fp32", "bf16"])
ROWS = pytest.mark.parametrize("shape", [(1, 1), (2, 1), (FEW_ROWS, 1), (3, 5), (FEW_ROWS + 1, 1)])


@DTYPES
@ROWS
@pytest.mark.parametrize("bias", [True, False])
def test_a_product(shape, bias, dtype):
    layer = Linear(24, 40, bias=bias)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    layer, x = layer.to(dtype), torch.randn(*shape, 24, dtype=dtype)
    expected = F.linear(x, layer.weight, layer.bias)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), expected.detach(), **CLOSE[dtype])
        torch.testing.assert_close(layer(x[:, -1]), expected[:, -1].detach(), **CLOSE[dtype])


@DTYPES
@ROWS
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_a_norm(shape, scale, dtype):
    norm = RMSNorm(48, eps=1e-6)
    torch.nn.init.normal_(norm.weight, mean=1.0)
    norm, x = norm.to(dtype), (torch.randn(*shape, 48) * scale + scale).to(dtype)
    expected = F.rms_norm(x, (48,), norm.weight, 1e-6)
    with torch.inference_mode():
        torch.testing.assert_close(norm(x), expected.detach(), **CLOSE[dtype])


@DTYPES
@pytest.mark.parametrize("num_kv_heads", [8, 4, 1])
@pytest.mark.parametrize("masked", [True, False])
def test_attention_of_one_query(num_kv_heads, masked, dtype):
    query = torch.randn(3, 1, 8, 16, dtype=dtype)
    key, value = torch.randn(2, 3, 20, num_kv_heads, 16, dtype=dtype)
    mask = (
        torch.arange(20) >= torch.tensor([0, 7, 19])[:, None, None, None] if masked else None
    )  # [B, 1, 1, S]
    grown = [
        each.repeat_interleave(8 // num_kv_heads, dim=2).transpose(1, 2).float() for each in (key, value)
    ]
    expected = F.scaled_dot_product_attention(query.transpose(1, 2).float(), *grown, attn_mask=mask)
    given = {"key": key, "value": value, "mask": mask}
    close = CLOSE[dtype]
    torch.testing.assert_close(
        attention(query, **given).float(), expected.transpose(1, 2).flatten(2), **close
    )
    if num_kv_heads == 8:
        scaled = full_attention(query, **given, scale=1 / 4)
        torch.testing.assert_close(scaled.float(), expected.transpose(1, 2).flatten(2), **close)
