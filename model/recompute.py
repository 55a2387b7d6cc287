"""Activation checkpointing (Chen et al. 2016): the backward pass computes a block again instead of keeping its insides.

Either all of them, from the block's input alone, or only what is cheap (Korthikanti et al. 2022, section 5): norms,
rotation, activation functions and their products are computed again, outputs of matrix products and attention are kept.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.checkpoint import checkpoint


class Recompute(Enum):
    """What the backward pass computes again."""

    selective = "selective"
    full = "full"


_OPS = torch.ops.aten
KEPT = {
    _OPS.mm.default,
    _OPS.addmm.default,
    _OPS.bmm.default,
    _OPS.baddbmm.default,
    _OPS._scaled_dot_product_flash_attention_for_cpu.default,  # noqa: SLF001 - as torch calls its kernels
    _OPS._scaled_dot_product_flash_attention.default,  # noqa: SLF001
    _OPS._scaled_dot_product_efficient_attention.default,  # noqa: SLF001
    _OPS._scaled_dot_product_cudnn_attention.default,  # noqa: SLF001
}
"""What `selective` keeps the results of: nearly all the work, in about half the memory."""


def through(block: nn.Module, x: Tensor, *others: Any, recompute: Recompute | None) -> Tensor:
    """What the block makes of x and the others; None: everything is kept that the backward pass needs."""
    if recompute is None or not torch.is_grad_enabled():
        return torch.as_tensor(block(x, *others))
    if recompute is Recompute.full:
        return torch.as_tensor(checkpoint(block, x, *others, use_reentrant=False))
    return torch.as_tensor(checkpoint(block, x, *others, use_reentrant=False, context_fn=_keep_and_take))


def _keep_and_take() -> tuple[TorchDispatchMode, TorchDispatchMode]:
    """What to run the block in, and then its recomputation.

    As torch's own `create_selective_checkpoint_contexts`, but that asks for just the same operations both times, and
    ZeRO-3's hooks have others to do when they gather a weight a second time.
    """
    kept: dict[Any, deque[_Kept]] = defaultdict(deque)
    return _Keep(kept), _Take(kept)


@dataclass
class _Kept:
    """What an operation gave."""

    result: Any
    is_whole: bool = True
    "False once something was written over it: ZeRO-3's linear map adds its bias in place."


class _Keep(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, kept: dict[Any, deque[_Kept]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept = kept
        self._by_storage: dict[int, _Kept] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        for written in _written(func, args):
            if kept := self._by_storage.get(written.untyped_storage().data_ptr()):
                kept.is_whole = False
        result = func(*args, **(kwargs or {}))
        if func in KEPT:
            kept = _Kept(tree_map_only(Tensor, Tensor.detach, result))
            self._kept[func].append(kept)
            tensors = (each for each in tree_leaves(result) if isinstance(each, Tensor))
            self._by_storage |= {each.untyped_storage().data_ptr(): kept for each in tensors}
        return result


def _written(func: Any, args: Sequence[Any]) -> Iterator[Tensor]:
    """Those of the arguments that the operation changes."""
    if func._schema.is_mutable:  # noqa: SLF001 - as torch calls what it says of its operations
        for given, said in zip(args, func._schema.arguments, strict=False):  # noqa: SLF001
            if isinstance(given, Tensor) and said.alias_info and said.alias_info.is_write:
                yield given


class _Take(_Keep):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        kept = self._kept[func].popleft() if func in KEPT else None
        return kept.result if kept and kept.is_whole else func(*args, **(kwargs or {}))
