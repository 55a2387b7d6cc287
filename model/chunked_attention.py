"""Attention on CPUs where the model is compiled: a few large products in place of many small ones.

Letters: B batch, T time, H query heads, K key-value heads, R = H / K, D head dim; n queries of a chunk, S keys it sees.

torch's own kernel goes through scores in blocks that stay in a core's cache; its products are too small for the
machine's matrix instructions, and its backward pass is twice as long as the arithmetic. Here the queries come in CHUNKS
parts, each against all the keys that it may see, with the elementwise part between two products fused by the compiler.
As in FlashAttention (Dao et al. 2022, "FlashAttention: Fast and Memory-Efficient Exact Attention", algorithms 1 and 4)
the backward pass computes the probabilities again from the log of each row's sum: memory is one chunk of scores.
Scores are rounded to the dtype of the queries, as a product is, before the softmax in fp32.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNKS = 4
"""Of a sequence: nearly all of what is gained by leaving out keys of the future, and seconds to compile."""

MIN_CHUNK = 64
MAX_SCORES = 2**24
"""Of a chunk, in elements, beyond which its scores are too much memory."""


def takes(query: Tensor, mask: object) -> bool:
    """Whether `causal_attention` is to do it: what is compiled for a CPU, without a mask."""
    if mask is not None or query.device.type != "cpu" or not torch.compiler.is_compiling():
        return False
    num_rows, length, num_heads, _ = query.shape
    return length > 1 and num_rows * num_heads * _chunk_of(length) * length <= MAX_SCORES


def causal_attention(query: Tensor, *, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V, each query seeing the keys up to its own place.

    query [B, T, H, D], key and value [B, T, K, D] -> [B, T, H*D].
    """
    out: Tensor = _Chunked.apply(query, key, value)  # type: ignore[no-untyped-call]
    return out.flatten(2)


class _Chunked(torch.autograd.Function):
    """query [B, T, H, D], key and value [B, T, K, D] -> [B, T, H, D]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        num_rows, length, num_keys, _ = key.shape
        q, k, v = _fold(query, num_keys), _fold(key, num_keys), _fold(value, num_keys)
        outs, log_sums = [], []
        for begin, end in _chunks(length):
            scores = _scores(q, k, begin, end)
            most = scores.amax(dim=-1, keepdim=True)
            exps = (scores - most).exp()
            sums = exps.sum(dim=-1, keepdim=True)
            log_sums.append((most + sums.log()).flatten(1, 2))
            outs.append(torch.bmm((exps / sums).to(q.dtype).flatten(1, 2), v[:, :end]))
        out = _unfold(torch.cat(outs, dim=1), num_rows, length)
        ctx.save_for_backward(q, k, v, out, torch.cat(log_sums, dim=1))  # the last [B*K, T*R, 1]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, log_sum = ctx.saved_tensors
        num_rows, length = out.shape[:2]
        num_keys, each = len(k) // num_rows, q.shape[1] // length  # K, R
        of_sum = _fold((grad.float() * out.float()).sum(dim=-1, keepdim=True), num_keys)  # [B*K, T*R, 1]
        grad = _fold(grad, num_keys)
        scale = 1 / math.sqrt(q.shape[-1])
        grad_q, grad_k, grad_v = (
            [],
            torch.zeros_like(k, dtype=torch.float32),
            torch.zeros_like(v, dtype=torch.float32),
        )
        for begin, end in _chunks(length):
            rows, unseen = slice(begin * each, end * each), (0, 0, 0, length - end)
            probs = (_scores(q, k, begin, end).flatten(1, 2) - log_sum[:, rows]).exp()  # [B*K, n*R, S]
            grad_probs = torch.bmm(grad[:, rows], v[:, :end].transpose(1, 2)).float()
            grad_scores = (probs * (grad_probs - of_sum[:, rows]) * scale).to(q.dtype)
            grad_q.append(torch.bmm(grad_scores, k[:, :end]))
            grad_k = grad_k + F.pad(torch.bmm(grad_scores.transpose(1, 2), q[:, rows]).float(), unseen)
            grad_v = grad_v + F.pad(
                torch.bmm(probs.to(q.dtype).transpose(1, 2), grad[:, rows]).float(), unseen
            )
        found = torch.cat(grad_q, dim=1), grad_k.to(k.dtype), grad_v.to(v.dtype)
        query, key, value = (_unfold(each_grad, num_rows, length) for each_grad in found)
        return query, key, value


def _scores(q: Tensor, k: Tensor, begin: int, end: int) -> Tensor:
    """Of the queries [begin, end), scaled, in fp32; -inf where a key is of the future: [B*K, n, R, S]."""
    each = q.shape[1] // k.shape[1]
    products = torch.bmm(q[:, begin * each : end * each], k[:, :end].transpose(1, 2))
    seen = torch.arange(end, device=q.device) <= torch.arange(begin, end, device=q.device)[:, None]  # [n, S]
    scores = products.view(len(q), end - begin, each, end).float() / math.sqrt(q.shape[-1])
    return scores.masked_fill(~seen[:, None], -math.inf)


def _chunk_of(length: int) -> int:
    return max(MIN_CHUNK, -(-length // CHUNKS))


def _chunks(length: int) -> list[tuple[int, int]]:
    step = _chunk_of(length)
    return [(begin, min(length, begin + step)) for begin in range(0, length, step)]


def _fold(x: Tensor, num_keys: int) -> Tensor:
    """[B, T, K*R, D] -> [B*K, T*R, D]: the heads that share keys are more queries of one head."""
    num_rows, length, num_heads, head_dim = x.shape
    apart = x.reshape(num_rows, length, num_keys, num_heads // num_keys, head_dim)
    return apart.transpose(1, 2).reshape(num_rows * num_keys, -1, head_dim)


def _unfold(x: Tensor, num_rows: int, length: int) -> Tensor:
    """[B*K, T*R, D] -> [B, T, K*R, D]."""
    apart = x.reshape(num_rows, len(x) // num_rows, length, -1, x.shape[-1])  # [B, K, T, R, D]
    return apart.transpose(1, 2).reshape(num_rows, length, -1, x.shape[-1])
