"""One rank of training outside of Ray: python one_rank.py ORDERS RANK WORLD_SIZE STORE.

ORDERS is a pickled list of the arguments of `Order` but the channel; they are worked off one after the other.
"""

import os
import pickle
import sys
from pathlib import Path


class Silent:
    def send(self, event: dict) -> None:
        pass


def main(orders: str, rank: str, world_size: str, store: str) -> None:
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size}
    from pipeline.training.runtime import prepare_process

    prepare_process(threads=1)
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(world_size))
    from pipeline.training.worker import Order, work

    for fields in pickle.loads(Path(orders).read_bytes()):
        work(Order(channel=Silent(), **fields))
    dist.destroy_process_group()
    sys.stdout.flush()
    # all is done and written; torn down by the interpreter, gloo's threads now and then abort the process
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
