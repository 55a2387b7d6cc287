"""The mathematics that architectures share: linear maps, RMSNorm, two attention calls.

Letters: B batch, T time of the queries, S time of the keys, H query heads, K key-value heads, D head dim, C hidden.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import chunked_attention
from model.masks import Mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

FEW_ROWS = 64
"So many, at most, are few: those of one step of generation."
HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class Linear(nn.Linear):
    """`nn.Linear` that is born without values: each architecture fills its weights in `init_weights` alone.

    Where a model writes, in fp32 on the CPU, its products are oneDNN's, which reads a matrix for a few rows in half to
    three quarters of the time of the BLAS that torch takes for fp32.
    """

    def reset_parameters(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not (HAS_ONEDNN and x.dtype is torch.float32 and is_few_rows(x)):
            return super().forward(x)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # noqa: SLF001
        return product


def is_few_rows(x: Tensor) -> bool:
    """Whether x [.., C] is what a writing model reads at once, on the CPU: calls cost more than their arithmetic."""
    if (
        torch.compiler.is_compiling()
    ):  # which cannot look at what follows, and would compile the parts around it
        return False
    return (
        torch.is_inference_mode_enabled() and x.device.type == "cpu" and x.numel() <= FEW_ROWS * x.shape[-1]
    )


class Embedding(nn.Embedding):
    """`nn.Embedding` that is born without values, like `Linear`."""

    def reset_parameters(self) -> None:
        pass


class RMSNorm(nn.Module):
    """y = x / sqrt(mean(x^2) + eps) * weight, over the last dimension, summed in fp32 (Zhang and Sennrich 2019).

    Of few rows it is half of the LayerNorm of [x, -x], whose mean is 0 and whose variance is mean(x^2): on the CPU that
    is one kernel, and RMSNorm is eight.
    """

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if not is_few_rows(x):
            return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)
        mirrored = torch.cat((x, -x), dim=-1)
        return F.layer_norm(mirrored, mirrored.shape[-1:], eps=self.eps)[..., : x.shape[-1]] * self.weight


def attention(query: Tensor, *, key: Tensor, value: Tensor, mask: Mask | None) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V for every head: query [B, T, H, D], key and value [B, S, K, D] -> [B, T, H*D].

    mask: bool [B, 1, T, S], True where a query may see a key; numbers to be added; or blocks. None: causal when T > 1
    (then T == S, the fast path); with T == 1 the one query sees every key. H may be a multiple of K (grouped-query
    attention, Ainslie et al. 2023).
    """
    if mask is not None and not isinstance(mask, Tensor):
        return _in_blocks(query, key=key, value=value, mask=mask)
    assert mask is not None or query.shape[1] in (1, key.shape[1]), (
        "a cached prefix of several tokens needs a mask"
    )
    if query.shape[1] == 1:
        return _of_one_query(query, key=key, value=value, mask=mask)
    if chunked_attention.takes(query, mask) and query.shape[1] == key.shape[1]:
        return chunked_attention.causal_attention(query, key=key, value=value)
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2),  # [B, H, T, D]
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None and query.shape[1] > 1,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return out.transpose(1, 2).flatten(2)


def _in_blocks(query: Tensor, *, key: Tensor, value: Tensor, mask: "BlockMask") -> Tensor:
    """`attention` that leaves out blocks of which nothing is seen; compiled, or else it would hold all T * S scores."""
    from torch.nn.attention.flex_attention import flex_attention

    attend: Any = flex_attention if torch.compiler.is_compiling() else _compiled(flex_attention)
    out = attend(
        query.transpose(1, 2),  # [B, H, T, D]
        key.transpose(1, 2),
        value.transpose(1, 2),
        block_mask=mask,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return torch.as_tensor(out).transpose(1, 2).flatten(2)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


def full_attention(
    query: Tensor, *, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None = None
) -> Tensor:
    """softmax(scale Q K^T + mask) V where every query may see every key: of an encoder, or over one.

    query [B, T, H, D], key and value [B, S, H, D] -> [B, T, H*D]. mask: None; bool, True where a query may see a
    key; or numbers to be added; of a shape that broadcasts to [B, H, T, S]. scale: default 1 / sqrt(D).
    """
    if query.shape[1] == 1:
        return _of_one_query(query, key=key, value=value, mask=mask, scale=scale)
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2),  # [B, H, T, D]
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        scale=scale,
    )
    return out.transpose(1, 2).flatten(2)


def _of_one_query(
    query: Tensor, *, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None = None
) -> Tensor:
    """Attention of the last token alone: query [B, 1, H, D] -> [B, 1, H*D].

    Query heads that share keys are asked as so many queries of one head, which reads keys and values once. A lone one
    is asked twice in bf16 on the CPU, whose kernel takes four times as long for one query as for two.
    """
    num_rows, _, num_heads, head_dim = query.shape
    shared = query.reshape(num_rows, key.shape[2], -1, head_dim)  # [B, K, H/K, D]
    is_lone = num_heads == key.shape[2] and query.dtype is torch.bfloat16 and query.device.type == "cpu"
    if is_lone:
        shared = shared.expand(-1, -1, 2, -1)
    out = F.scaled_dot_product_attention(
        shared, key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, scale=scale
    )
    return (out[:, :, :1] if is_lone else out).reshape(num_rows, 1, -1)
