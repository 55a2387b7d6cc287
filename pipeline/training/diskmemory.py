"""Host memory that lies on a disk: for the optimizer's states and for parameters that no memory has room for.

Each tensor is a file of its own that the operating system maps: it reads ahead, writes back, and keeps in memory what
there is room for. A file has no name, so that its space is free again as soon as its process is gone, however that
ended. All of the space is taken before the first byte is written: a disk that is full says so here, in words.

DeepSpeed's own swapping to NVMe is not used. It needs libaio and a compiler on every machine, leaves tensors elsewhere
in each step, so that checkpoints, means of weights and norms would have to fetch them, and never looks at what a
write has come to (csrc/aio: `_do_io_complete` counts events and reads none): on a full disk it trains on with old
states. With mapped files the arithmetic is that of an offload to memory, to the last bit.
"""

import errno
import mmap
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError, StageFailedError

WHERE = "resources.offload_folder"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskMemory:
    """Memory of this process in a folder of this machine.

    Raises:
        ConfigError: nothing can be written there.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"0")
                file.flush()
        except OSError as error:
            raise self._failure(error, 1) from error

    def empty(self, numel: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor [numel], zeros at first.

        Raises:
            StageFailedError: there is no room for it.
        """
        num_bytes = max(1, numel) * dtype.itemsize
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                os.posix_fallocate(file.fileno(), 0, num_bytes)
                mapped = mmap.mmap(file.fileno(), num_bytes)
            mapped.madvise(mmap.MADV_SEQUENTIAL)  # the optimizer goes through them in order
            return torch.frombuffer(mapped, dtype=dtype, count=numel)
        except OSError as error:
            raise self._failure(error, num_bytes) from error

    def zeros_like(self, tensor: Tensor) -> Tensor:
        return self.empty(tensor.numel(), tensor.dtype).view(tensor.shape)

    def moved(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor's values."""
        return self.zeros_like(tensor).copy_(tensor.detach())

    def _failure(self, error: OSError, num_bytes: int) -> ConfigError | StageFailedError:
        place = f"{self._folder} on {platform.node()}"
        if error.errno in FULL:
            return StageFailedError(
                f"{place} has no room for {num_bytes / (1 << 30):.3g} GiB more of what is offloaded: {error.strerror}",
                where=WHERE,
                allowed="a folder with room for the optimizer's states of all ranks of a machine, and a copy of them",
                do="make room there, name a folder on a larger disk, or take more machines",
            )
        return ConfigError(
            f"{place} cannot be written to: {error.strerror}",
            where=WHERE,
            allowed="a folder on a fast disk of every machine, in which the ranks may write",
            do="name another folder, or make this one writable",
        )


def move_offloaded(zero: Any, disk: DiskMemory, resources: Resources) -> None:
    """Let DeepSpeed's ZeRO-3 optimizer keep there what it keeps in host memory: the same tensors with other storage.

    The optimizer's states are not there yet.
    """
    if resources.offload_optimizer:
        for flat in zero.fp32_partitioned_groups_flat:
            flat.data = disk.moved(flat)
            flat.grad.data = disk.moved(flat.grad)
    if resources.offload_parameters:
        for group, flat in enumerate(zero.fp16_partitioned_groups_flat):
            whole = disk.moved(flat)
            zero.fp16_partitioned_groups_flat[group] = whole
            parts = zero.fp16_partitioned_groups[group]
            sizes = [part.ds_numel for part in parts]
            for part, values in zip(parts, torch.split(whole, sizes), strict=True):
                part.data = values
        zero.param_groups_fp16_flat_cpu_memory = []
        if torch.accelerator.is_available():  # torch keeps pinned memory that is given back
            torch.accelerator.empty_host_cache()
