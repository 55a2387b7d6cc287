"""A rank's process made ready: threads, device, and DeepSpeed imported without what training never uses."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch

from model.products import provide_bf16_products

NEVER_COMPILED = ("deepspeed_shm_comm", "deepspeed_ccl_comm")
"""DeepSpeed's C++ collectives for CPU ranks: a compiler's minute of work. Torch ships gloo, which needs none of it."""


def prepare_process(*, threads: int) -> None:
    """Fix threads, accelerator, and what bf16 is computed with, before DeepSpeed is imported."""
    torch.set_num_threads(threads)
    provide_bf16_products()
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module="torch"
    )  # DeepSpeed's use of torch.distributed
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")


def import_deepspeed() -> Any:
    """DeepSpeed without what costs seconds and training never uses: its autotuner's MLflow, its Muon's compiler."""
    if "deepspeed" in sys.modules:
        return sys.modules["deepspeed"]
    hidden = {} if "mlflow" in sys.modules else {"mlflow": None}
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None is how the import system is told "not there"
    try:
        import deepspeed
    finally:
        for name in hidden:
            del sys.modules[name]
    for name in NEVER_COMPILED:
        deepspeed.ops.__compatible_ops__[name] = False
    deepspeed.utils.logger.setLevel("ERROR")
    _import_muon_uncompiled()
    return deepspeed


def _import_muon_uncompiled() -> None:
    """DeepSpeed's Muon, which is not ours, would load torch's compiler as soon as any engine is made: a second."""
    compiler: Any = importlib.import_module("deepspeed.runtime.compiler")
    compile_parts = compiler.compile
    compiler.compile = _not_compiled
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")
    finally:
        compiler.compile = compile_parts


def _not_compiled(*_args: Any, **_settings: Any) -> Callable[[Any], Any]:
    return lambda function: function


def device_of_rank() -> torch.device:
    """The device that Ray gave this rank."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
