"""Recomputation of a block: what was kept for it and written over since is computed again."""

import pytest
import torch
from torch import nn

from model.recompute import Recompute, through


class BiasInPlace(torch.autograd.Function):
    """x W^T + b as DeepSpeed computes it under ZeRO 3: the bias is added into the product."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        out = x.matmul(weight.t())
        out += bias
        return out

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad.matmul(weight), grad.flatten(0, 1).t() @ x.flatten(0, 1), grad.sum((0, 1))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        inner = torch.tanh(BiasInPlace.apply(x, self.first.weight, self.first.bias))
        return x + BiasInPlace.apply(inner, self.second.weight, self.second.bias)


@pytest.mark.parametrize("recompute", list(Recompute))
def test_a_bias_that_is_added_in_place_is_added_once(recompute):
    torch.manual_seed(0)
    blocks, x = nn.ModuleList([Block(), Block()]), torch.randn(2, 5, 8)
    gradients = []
    for each in (None, recompute):
        blocks.zero_grad()
        out = x
        for block in blocks:
            out = through(block, out, recompute=each)
        out.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in blocks.parameters()])
    assert all(torch.equal(found, kept) for kept, found in zip(*gradients, strict=True))
