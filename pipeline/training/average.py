"""A running mean of the weights: kept in fp32 beside the optimizer's states, in the same partitions.

After update t it is the mean of the weights after updates 1 to t, those after update i weighing decay^(t - i) of the
newest: an exponential moving average without its beginning at zero (Kingma and Ba 2014, section 3, for the average of
gradients). The initial weights have no part in it, so that it is as good for a short run as for a long one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.training.engine import Engine
from pipeline.training.fragments import renew
from pipeline.training.optimizer import AVERAGE


@contextmanager
def averaged(engine: Engine) -> Iterator[None]:
    """Within, the model computes with the mean, where one is kept; afterwards every bit is as it was."""
    if not engine.config.ema_decay:
        yield
        return
    _exchange(engine)
    try:
        yield
    finally:
        _exchange(engine)


@torch.no_grad()
def _exchange(engine: Engine) -> None:
    """The weights become the mean, and the mean the weights."""
    for weights, state in engine.optimizer.state.items():
        if AVERAGE in state:
            kept = weights.clone()
            weights.copy_(state[AVERAGE])
            state[AVERAGE].copy_(kept)
    renew(engine)
