"""Products of bf16 on CPUs that have no instructions for them: most laptops, and servers of some years ago.

torch adds them up there one number after the other, for ten to a hundred times as long as in fp32. Here each is made of
fp32 copies and rounded once, at the speed of fp32. That is what the instructions do too: a product of two bf16 numbers
is exact in fp32, in which it is added up.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mm.out", "bmm.out", "addmm.out", "baddbmm.out")
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"


def has_bf16_products() -> bool:
    """Whether the CPU multiplies matrices of bf16 faster than torch can without its help."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def provide_bf16_products() -> None:
    """From now on, in this process: torch's products and attention of bf16 on a CPU that lacks them, by fp32."""
    if not has_bf16_products():
        replace_bf16_products()


@cache
def replace_bf16_products() -> torch.library.Library:
    """Torch's products of bf16 on CPUs are made of fp32 ones for as long as what is returned lives: here, for good."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a kernel of torch is replaced
        for name in PRODUCTS:
            _replace(library, name, _rounded)
        _replace(library, ATTENTION, _rounded_mix)
        _replace(library, f"{ATTENTION}_backward", _rounded)
    return library


def _replace(library: torch.library.Library, name: str, rounded: Callable[[Any], Any]) -> None:
    operator = f"aten::{name}"
    of_torch = torch.library.get_kernel(operator, "CPU")
    computed = getattr(torch.ops.aten, name.removesuffix(".out")).default

    def product(keys: Any, *given: Any, out: Tensor | None = None, **settings: Any) -> Any:
        if given[0].dtype is not torch.bfloat16:
            settings |= {} if out is None else {"out": out}
            return of_torch.call_boxed(keys, *given, **settings)
        wide = [_widened(each) for each in given]
        found = computed(*wide, **{key: _widened(each) for key, each in settings.items()})
        return rounded(found) if out is None else out.copy_(found)

    library.impl(name, product, "CPU", with_keyset=True)  # type: ignore[no-untyped-call]


def _widened(given: Any) -> Any:
    is_narrow = isinstance(given, Tensor) and given.dtype is torch.bfloat16
    return given.float() if is_narrow else given


def _rounded(found: Any) -> Any:
    return found.bfloat16() if isinstance(found, Tensor) else tuple(each.bfloat16() for each in found)


def _rounded_mix(found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The mix of values; the logs of the rows' sums stay as they are."""
    mix, log_sums = found
    return mix.bfloat16(), log_sums
