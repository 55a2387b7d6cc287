"""A rank's process made ready: threads, device, and DeepSpeed imported without what training never uses."""

import os
import sys
import warnings
from typing import Any

import torch

NEVER_COMPILED = ("deepspeed_shm_comm", "deepspeed_ccl_comm")
"""DeepSpeed's C++ collectives for CPU ranks: a compiler's minute of work. Torch ships gloo, which needs none of it."""


def prepare_process(*, threads: int) -> None:
    """Fix the number of threads and the accelerator, before DeepSpeed is imported."""
    torch.set_num_threads(threads)
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module="torch"
    )  # DeepSpeed's use of torch.distributed
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")


def import_deepspeed() -> Any:
    """DeepSpeed, without its autotuner's import of MLflow: that alone costs 1.5 of its 1.9 seconds."""
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
    return deepspeed


def device_of_rank() -> torch.device:
    """The device that Ray gave this rank."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
