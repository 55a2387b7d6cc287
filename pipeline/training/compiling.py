"""torch.compile around what gains from it: each block of the model, and the elementwise part of the vocabulary head.

Blocks are alike, so one is compiled for all of them: seconds, where the whole model would take a minute or two. Between
blocks gradients reach the other ranks while earlier blocks are still computed, as without it. Results differ from those
without it in their last digits, as with another micro batch.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model.decoder import Decoder
from model.head import cross_entropy
from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError

LEAST_FLOPS = 2e14
"""Of a CPU rank's whole run, beyond which what is gained is more than the time of compiling: some twenty minutes."""
GATHERING_STAGE = 3
"""ZeRO 3 gathers weights in hooks around every module, which a compiled block would have to leave at each of them."""


def is_compiled(resources: Resources, *, zero_stage: int, flops_of_rank: float, device: torch.device) -> bool:
    """Whether to compile: as was asked, else on GPUs and in long runs on CPUs, where it can be done.

    Raises:
        ConfigError: it was asked for, and cannot be done.
    """
    if resources.compile is None:
        pays = device.type != "cpu" or flops_of_rank >= LEAST_FLOPS
        return pays and zero_stage != GATHERING_STAGE and has_compiler()
    if resources.compile and zero_stage == GATHERING_STAGE:
        raise _cannot(
            "ZeRO 3 gathers weights around every module, which a compiled model cannot wait for",
            "ZeRO 0 to 2",
        )
    if resources.compile and not has_compiler():
        raise _cannot("this machine has no C++ compiler", "g++ or clang++ on PATH, or CXX set to one")
    return resources.compile


def _cannot(what: str, allowed: str) -> ConfigError:
    return ConfigError(
        f"the model cannot be compiled: {what}",
        where="resources.compile",
        allowed=allowed,
        do="leave compile open (null): then it is done where it can be",
    )


def has_compiler() -> bool:
    """Whether this machine has the C++ compiler that torch's own compiler ends in."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # a second that only this costs
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def compile_blocks(model: Decoder) -> None:
    """Every shape is compiled for itself, so that what was computed before changes nothing."""
    for block in model.blocks:
        block.compile(dynamic=False)
    model.lm_head.cross_entropy = torch.compile(cross_entropy, dynamic=False)


@contextmanager
def eager() -> Iterator[None]:
    """Within, nothing is compiled: for what is computed once, in other shapes."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled; this would load the compiler
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
