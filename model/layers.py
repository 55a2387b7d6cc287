"""The mathematics that architectures share: linear maps, RMSNorm, two attention calls, masks.

Letters: B batch, T time of the queries, S time of the keys, H query heads, K key-value heads, D head dim, C hidden.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def attention(query: Tensor, *, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V for every head: query [B, T, H, D], key and value [B, S, K, D] -> [B, T, H*D].

    mask: bool [B, 1, T, S], True where a query may see a key. None: causal when T > 1 (then T == S, the fast path);
    with T == 1 the one query sees every key. H may be a multiple of K (grouped-query attention, Ainslie et al. 2023).
    """
    assert mask is not None or query.shape[1] in (1, key.shape[1]), (
        "a cached prefix of several tokens needs a mask"
    )
    if query.shape[1] == 1:
        return _of_one_query(query, key=key, value=value, mask=mask)
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2),  # [B, H, T, D]
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None and query.shape[1] > 1,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return out.transpose(1, 2).flatten(2)


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


def full_mask(
    attention_mask: Tensor | None, query_documents: Tensor | None, key_documents: Tensor | None
) -> Tensor | None:
    """Bool [B, 1, T or 1, S] for `full_attention`: real keys, of the query's own document; None where all are seen.

    attention_mask [B, S]: 1 for real tokens, 0 for padding; documents [B, T] and [B, S]: equal means the same one.
    """
    mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]  # [B, 1, 1, S]
    if query_documents is not None and key_documents is not None:
        same = (query_documents[:, :, None] == key_documents[:, None, :])[:, None]  # [B, 1, T, S]
        mask = same if mask is None else same & mask
    return mask


def document_mask(document_ids: Tensor) -> Tensor:
    """Bool [B, 1, T, T]: causal, and only within a document; document_ids [B, T], equal means the same document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return same.tril()[:, None]


def prefix_document_mask(prefix_mask: Tensor, document_ids: Tensor | None) -> Tensor:
    """As `document_mask`, and a document's prefix, 1 in prefix_mask [B, T], is seen by all of its tokens."""
    document_ids = torch.zeros_like(prefix_mask, dtype=torch.long) if document_ids is None else document_ids
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return (same.tril() | (same & prefix_mask.bool()[:, None, :]))[:, None]


def window_mask(
    mask: Tensor | None, *, window: int, num_queries: int, num_keys: int, device: torch.device
) -> Tensor | None:
    """`mask` of `attention` narrowed to the last `window` keys, the query's own among them; None where that is all."""
    if num_keys <= window:
        return mask
    keys = torch.arange(num_keys, device=device)  # [S]
    queries = keys[num_keys - num_queries :, None]  # [T, 1]
    near = keys > queries - window  # [T, S]
    return near & (keys <= queries if mask is None else mask)
