"""torch.compile around what gains from it: each block of the model, and the elementwise part of the vocabulary head.

Blocks are alike, so one is compiled for all of them: seconds, where the whole model would take a minute or two. Between
blocks gradients reach the other ranks while earlier blocks are still computed, as without it. Results differ from those
without it in their last digits, as with another micro batch.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._functorch import config as functorch

from model.base import LanguageModel
from model.head import cross_entropy
from pipeline.dag.resources import Recomputation, Resources
from pipeline.errors import ConfigError
from pipeline.training.config import WEIGHTS_STAGE

LEAST_FLOPS = 2e14
"""Of a CPU rank's whole run, beyond which what is gained is more than the time of compiling: some twenty minutes."""


def is_compiled(
    model: LanguageModel, resources: Resources, *, zero_stage: int, flops_of_rank: float, device: torch.device
) -> bool:
    """Whether to compile: as was asked, else on GPUs and in long runs on CPUs, where it can be done.

    Raises:
        ConfigError: it was asked for, and cannot be done.
    """
    pays = device.type != "cpu" or flops_of_rank >= LEAST_FLOPS
    if resources.compile is False or (resources.compile is None and not pays):
        return False
    obstacle = _obstacle(model, resources, zero_stage)
    if obstacle and resources.compile:
        what, allowed = obstacle
        raise ConfigError(
            f"the model cannot be compiled: {what}",
            where="resources.compile",
            allowed=allowed,
            do="leave compile open (null): then it is done where it can be",
        )
    return not obstacle


def _obstacle(model: LanguageModel, resources: Resources, zero_stage: int) -> tuple[str, str] | None:
    """What stands in the way, and what does not."""
    if not model.can_be_compiled:
        return f"nothing of a {model.config.architecture} model is fused", "gpt2 and llama models"
    if zero_stage == WEIGHTS_STAGE:  # in hooks, at each of which a compiled block would have to be left
        return "ZeRO 3 gathers weights around each of its modules", "ZeRO 0 to 2"
    if resources.activation_checkpointing is Recomputation.selective:  # it looks at every operation
        return "recomputation is selective", "activation_checkpointing none or full"
    if not has_compiler():
        return "this machine has no C++ compiler", "g++ or clang++ on PATH, or CXX set to one"
    return None


def has_compiler() -> bool:
    """Whether this machine has the C++ compiler that torch's own compiler ends in."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # a second that only this costs
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def compile_blocks(model: LanguageModel) -> None:
    """A block once for every shape, the head once for all: so what was computed before changes nothing.

    What comes of it is kept on this machine, and a resumed run finds it there.
    """
    functorch.autograd_cache_allow_custom_autograd_functions = (
        True  # our attention's; its code is part of the key
    )
    assert isinstance(model.blocks, nn.ModuleList)
    for block in model.blocks:
        block.compile(dynamic=False)
    if model.config.has_lm_head:
        model.lm_head.cross_entropy = torch.compile(cross_entropy, dynamic=True)


@contextmanager
def eager() -> Iterator[None]:
    """Within, nothing is compiled: for what is computed once, in other shapes."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled; this would load the compiler
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
