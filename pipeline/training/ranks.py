"""The ranks of a run: who this one is, and what they agree on together."""

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This rank among all; the calls are made by all ranks together."""

    rank: int
    world_size: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in their order, on every rank."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.world_size > 1:
            dist.barrier()


def current_ranks() -> Ranks:
    """As the process group, which Ray Train has set up, says."""
    return Ranks(dist.get_rank(), dist.get_world_size())
