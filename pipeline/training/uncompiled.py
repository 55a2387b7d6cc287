"""Torch's optimizers without torch's compiler, which the first of them loads: a second of every rank's start.

They load it to break the graph of a function that would be compiled around their step, and to keep their bookkeeping
out of it. Ours are called from no compiled function. What they compute is the same.
"""

import inspect
from typing import Any, TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)
BOOKKEEPING = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")


def without_compiler(kind: type[Kind]) -> type[Kind]:
    """The same optimizer, whose methods are those below torch's wrappers."""
    plain: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in BOOKKEEPING}
    return type(kind.__name__, (kind,), plain | {"step": plain_step(kind)})


def plain_step(kind: type[torch.optim.Optimizer]) -> Any:
    """The step of an optimizer, in which no gradient is recorded."""
    return torch.no_grad()(inspect.unwrap(kind.step))
