"""Which tokens a token sees: masks for `model.layers`, whole, or in blocks of which most need no work.

Letters: B batch, T time of the queries, S time of the keys.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Mask = Union[Tensor, "BlockMask"]
"""Bool [B, 1, T, S], True where a query may see a key; or numbers to be added; or blocks, see `causal_mask`."""
Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Of (row, head, query, key), integers that broadcast against each other: whether the query sees the key."""
BLOCK_DEVICES = {"cuda"}
"Where attention in blocks has a backward pass (torch's FlexAttention)."
BLOCK_SIZE = 128
"FlexAttention's own."


def causal_mask(
    num_tokens: int,
    *,
    device: torch.device,
    document_ids: Tensor | None = None,
    prefix_mask: Tensor | None = None,
    window: int | None = None,
    in_blocks: bool = True,
) -> Mask | None:
    """What the tokens of a row see of each other, beside themselves only earlier ones; None where that is all of them.

    Blocks of which no query sees a key are never computed (FlexAttention, Dong et al. 2024, arXiv:2412.05496), and what
    is whole inside of a document needs no mask. On CPUs, and for few tokens, the mask is a tensor.

    Args:
        num_tokens: T.
        device: of the tokens.
        document_ids: int [B, T]; only tokens of an equal id are seen.
        prefix_mask: [B, T], 1 for the tokens of a document that all of its tokens see.
        window: a token sees so many, itself among them, and later ones of a prefix.
        in_blocks: whether blocks may be left out, where the device can.
    """
    if window is not None and num_tokens <= window:
        window = None
    if document_ids is None and prefix_mask is None and window is None:
        return None
    rule = causal_rule(document_ids, prefix_mask, window)
    rows = next((len(each) for each in (document_ids, prefix_mask) if each is not None), 1)
    if in_blocks and device.type in BLOCK_DEVICES and num_tokens >= BLOCK_SIZE:
        from torch.nn.attention.flex_attention import create_block_mask  # a second, for those who need it

        return create_block_mask(rule, rows, None, num_tokens, num_tokens, device, BLOCK_SIZE)
    places = torch.arange(num_tokens, device=device)
    row = torch.arange(rows, device=device)[:, None, None, None]
    return rule(row, torch.zeros_like(row), places[:, None], places)


def causal_rule(document_ids: Tensor | None, prefix_mask: Tensor | None, window: int | None) -> Rule:
    """The arguments of `causal_mask`, as FlexAttention's mask_mod."""

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del head
        seen = key <= query
        if prefix_mask is not None:
            seen = seen | prefix_mask[row, key].bool()
        if document_ids is not None:
            seen = seen & (document_ids[row, query] == document_ids[row, key])
        if window is not None:
            seen = seen & (key > query - window)
        return seen

    return sees


def added_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The same mask as numbers to be added to scores: 0 where a query may see a key, -inf elsewhere.

    Made once for all layers: of a bool mask torch makes these numbers in every layer, and keeps them all.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -math.inf)


def document_mask(document_ids: Tensor) -> Tensor:
    """Bool [B, 1, T, T]: causal, and only within a document; document_ids [B, T], equal means the same document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return same.tril()[:, None]


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


def window_mask(
    mask: Tensor | None, *, window: int, num_queries: int, num_keys: int, device: torch.device
) -> Tensor | None:
    """A cache's mask narrowed to the last `window` keys, the query's own among them; None where that is all."""
    if num_keys <= window:
        return mask
    keys = torch.arange(num_keys, device=device)  # [S]
    queries = keys[num_keys - num_queries :, None]  # [T, 1]
    near = keys > queries - window  # [T, S]
    return near & (keys <= queries if mask is None else mask)
