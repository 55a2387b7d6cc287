"""Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2).

Neither torch nor DeepSpeed has one that runs on every device without a compiler. Element by element, so that a flat
partition of many parameters is as good as the parameters themselves.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

MOMENTUM = "exp_avg"


class Lion(torch.optim.Optimizer):
    """Every weight moves by the learning rate: along the sign of its momentum, interpolated towards the gradient.

    Steps are larger than AdamW's at an equal learning rate; the paper takes a rate three to ten times smaller, and a
    decay as many times larger (section 5).
    """

    def __init__(
        self, params: ParamsT, *, lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "the loss is computed once, before"
        for group in self.param_groups:
            found = {parameter: parameter.grad for parameter in group["params"] if parameter.grad is not None}
            if found:
                self._update(list(found), list(found.values()), group)

    def _update(
        self, parameters: list[torch.Tensor], gradients: list[torch.Tensor], group: dict[str, Any]
    ) -> None:
        (beta1, beta2), rate = group["betas"], group["lr"]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter][MOMENTUM] = torch.zeros_like(parameter)
        momenta = [self.state[parameter][MOMENTUM] for parameter in parameters]
        updates = torch._foreach_lerp(momenta, gradients, 1 - beta1)  # noqa: SLF001 - torch has no other name for it
        torch._foreach_sign_(updates)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-rate)
        torch._foreach_lerp_(momenta, gradients, 1 - beta2)
