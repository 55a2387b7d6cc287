"""Muon for hidden matrices and AdamW for the rest, on whole parameters and on ZeRO's flat partitions alike.

Muon (Jordan 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest semi-orthogonal
one. Momentum is kept element by element, so each rank keeps it for its own partition. Only the orthogonalization needs
the matrix: once a step the momenta of a partition are gathered in bf16, which Newton-Schulz computes in anyhow, and
each rank orthogonalizes those matrices of which it holds a part. At ZeRO 1 and 2 the ranks so share the matrices; at
ZeRO 0, and at ZeRO 3, which gives each rank a part of every matrix, all ranks compute them all.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.optimizer import ParamsT

from pipeline.training.uncompiled import plain_step

MOMENTUM = "momentum_buffer"
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration; Jordan 2024, "Tuning the coefficients"."""
ITERATIONS = 5
SMALLEST_NORM = 1e-7
RMS = 0.2
"""Root mean square of AdamW's updates, which Muon's are brought to; Liu et al. 2025, "Muon is Scalable for LLM
Training", equation 4. So one learning rate and one decay serve both."""

_adamw_step = plain_step(torch.optim.AdamW)


@dataclass(frozen=True)
class Piece:
    """The elements [start, start + numel) of a flattened matrix, at `offset` of a rank's flat tensor."""

    name: str
    start: int
    offset: int
    numel: int


@dataclass(frozen=True)
class Layout:
    """Where the matrices of one flat tensor lie: the same places on every rank's tensor of that group."""

    shapes: Mapping[str, torch.Size]
    pieces: Sequence[Sequence[Piece]]
    "By rank; a single rank's where the tensor is the whole matrix."
    rank: int
    device: torch.device
    "Where ranks talk and matrices are multiplied; an offloaded tensor lies elsewhere."


class Muon(torch.optim.AdamW):
    """AdamW of the groups without `orthogonal`, Muon of those with it: keys momentum, nesterov, lr, weight_decay.

    An orthogonal group's tensors must be told their `layouts`; until then they are matrices themselves.
    """

    def __init__(self, params: ParamsT, *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)
        self.layouts: dict[Tensor, Layout] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "the loss is computed once, before"
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("orthogonal")]
            _adamw_step(self)
        finally:
            self.param_groups = groups
        for group in groups:
            for tensor in group["params"] if group.get("orthogonal") else ():
                if tensor.grad is not None:
                    self._update(tensor, group)

    def _update(self, tensor: Tensor, group: dict[str, Any]) -> None:
        state = self.state[tensor]
        if not state:
            state[MOMENTUM] = torch.zeros_like(tensor)
        gradient, momentum = tensor.grad, state[MOMENTUM]
        assert gradient is not None
        momentum.lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        layout = self.layouts.get(tensor) or whole(tensor)
        rate = group["lr"]
        tensor.mul_(1 - rate * group["weight_decay"])
        flat = tensor.view(-1)
        for piece, update in orthogonal_pieces(direction.view(-1), layout):
            scale = RMS * math.sqrt(max(layout.shapes[piece.name]))
            flat.narrow(0, piece.offset, piece.numel).add_(update.to(flat.device), alpha=-rate * scale)


def whole(matrix: Tensor) -> Layout:
    """The layout of a tensor that is one matrix."""
    pieces = [[Piece("", start=0, offset=0, numel=matrix.numel())]]
    return Layout({"": matrix.shape}, pieces, rank=0, device=matrix.device)


def orthogonal_pieces(direction: Tensor, layout: Layout) -> Iterator[tuple[Piece, Tensor]]:
    """This rank's pieces of the orthogonalized matrices, bf16 [numel]; all ranks of the layout call it together.

    Args:
        direction: this rank's momenta, [N].
        layout: of all ranks' momenta.
    """
    held = _gathered(direction.to(layout.device, torch.bfloat16), len(layout.pieces))
    places: dict[str, list[tuple[int, Piece]]] = {}
    for rank, pieces in enumerate(layout.pieces):
        for piece in pieces:
            places.setdefault(piece.name, []).append((rank, piece))  # rising from rank to rank
    for mine in layout.pieces[layout.rank]:
        flat = torch.cat(
            [held[rank].narrow(0, piece.offset, piece.numel) for rank, piece in places[mine.name]]
        )
        matrix = orthogonalized(flat.view(layout.shapes[mine.name]))
        yield mine, matrix.reshape(-1).narrow(0, mine.start, mine.numel)


def orthogonalized(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix [M, N] to a bf16 one, about: singular values come to lie in [0.7, 1.2].

    Newton-Schulz iteration with a quintic polynomial (Jordan 2024, "Newton-Schulz iteration"), on the wide side up.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp(min=SMALLEST_NORM)  # no singular value is above 1
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


def _gathered(flat: Tensor, world_size: int) -> list[Tensor]:
    """Every rank's tensor, in their order."""
    if world_size == 1:
        return [flat]
    held = list(torch.empty(world_size, flat.numel(), dtype=flat.dtype, device=flat.device))
    dist.all_gather(held, flat)
    return held
