"""What a rank of training outside of Ray does; importing it loads what training needs."""

import os
import pickle
import sys
from pathlib import Path

from pipeline.training.runtime import import_deepspeed, prepare_process
from pipeline.training.worker import Order, work

prepare_process(threads=1)
import_deepspeed()


class Silent:
    def send(self, event: dict) -> None:
        pass


def main(orders: str, rank: int, world_size: int, store: str) -> None:
    """Work off a pickled list of the arguments of `Order` but the channel, one after the other."""
    import torch.distributed as dist

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    for fields in pickle.loads(Path(orders).read_bytes()):
        work(Order(channel=Silent(), **fields))
    dist.destroy_process_group()
    sys.stdout.flush()
    # all is done and written; torn down by the interpreter, gloo's threads now and then abort the process
    os._exit(0)
