"""A rank's part of the training state in host memory, as it was at one step: training goes on changing the live one.

Where the state is offloaded to a disk, its copy lies there too.
"""

import weakref

import torch
from torch import Tensor

from pipeline.training.engine import Engine
from pipeline.training.fragments import Fragment, shares_of
from pipeline.training.throughput import synchronize


class HostCopy:
    """Takes copies into one piece of memory, which is made at the first and used again for every other."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def make_room(self, engine: Engine) -> None:
        """Ask for the memory before the first copy."""
        self._make_room(engine, shares_of(engine))

    def take(self, engine: Engine) -> list[Fragment]:
        """What this rank writes of the state, as it is now; good until the next call."""
        live = shares_of(engine)
        self._make_room(engine, live)
        copies, start = [], 0
        for each in live:
            parts = {}
            for kind, part in each.tensors.items():
                parts[kind] = self._memory.narrow(0, start, part.numel())
                parts[kind].copy_(part, non_blocking=True)
                start += part.numel()
            copies.append(Fragment(each.name, each.start, parts))
        synchronize(engine.device)
        return copies

    def _make_room(self, engine: Engine, live: list[Fragment]) -> None:
        num_elements = sum(part.numel() for each in live for part in each.tensors.values())
        if self._memory.numel() != num_elements:
            on_disk = engine.disk.empty(num_elements) if engine.disk else None
            self._memory = _host_memory(num_elements, engine.device) if on_disk is None else on_disk


def _host_memory(num_elements: int, device: torch.device) -> Tensor:
    """fp32 [num_elements], from which and to which a GPU copies by itself.

    Registered with CUDA by hand: the pinned memory that torch hands out is rounded up to a power of two.
    """
    memory = torch.empty(num_elements)
    if device.type == "cuda" and num_elements:
        driver = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        address = memory.data_ptr()
        torch.cuda.check_error(int(driver.cudaHostRegister(address, memory.nbytes, 0)))
        weakref.finalize(memory, driver.cudaHostUnregister, address).atexit = False
    return memory
