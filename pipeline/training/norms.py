"""Norms of gradients and updates by group of layers, now and then: where training is about to diverge, or stands still.

Taken around the optimizer's own step, on the fp32 tensors that it updates: each rank looks at what it keeps, whatever
the ZeRO stage, and the sums of squares of all groups go to the other ranks as one vector. In a step that is looked at
a rank copies the weights that it updates, at a time when there are no activations.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.head import VocabularyHead
from pipeline.training.engine import Engine
from pipeline.training.fragments import model_of, places_of
from pipeline.training.recorder import StepRecord

DEFAULT_EVERY_STEPS = 100
MOST_BLOCK_GROUPS = 16
"""More blocks than that are put together, neighbours with neighbours."""
AT_ONCE = 1 << 20
"""Elements that are squared in fp64 at once."""
GRADIENT, WEIGHT, UPDATE = range(3)


@dataclass(frozen=True, eq=False)
class Piece:
    """What this rank answers for of a parameter."""

    group: int
    flat: Tensor
    offset: int
    numel: int

    def of(self, whole: Tensor) -> Tensor:
        """Its elements of a tensor like `flat`, [numel]."""
        return whole.detach().view(-1).narrow(0, self.offset, self.numel)


@dataclass
class Norms:
    """Looks when due: every so many steps, and at the last."""

    engine: Engine
    every_steps: int
    next_step: int
    "The step that comes first, from 1."
    last_step: int
    _held: list[tuple[Piece, Tensor]] = field(default_factory=list, init=False)
    "Weights before the update."
    _has_looked: bool = field(default=False, init=False)
    "At the newest step; not where its update was skipped."
    _depth: int = field(default=0, init=False)
    "Steps of the optimizer inside each other: Muon's has AdamW's in it."

    def __post_init__(self) -> None:
        groups = group_names(model_of(self.engine))
        self._names = sorted(set(groups.values()))
        self._pieces = list(
            _pieces(self.engine, {name: self._names.index(of) for name, of in groups.items()})
        )
        self._sums = torch.zeros(3, len(self._names), dtype=torch.float64, device=self.engine.device)
        self.engine.optimizer.register_step_pre_hook(self._before)
        self.engine.optimizer.register_step_post_hook(self._after)

    def offer(self, record: StepRecord) -> dict[str, float]:
        """Called after each training step, by all ranks; the norms where they were due."""
        found = self._metrics(record.grad_norm) if self._has_looked else {}
        self._has_looked = False
        self.next_step = record.step + 1
        return found

    @property
    def _is_due(self) -> bool:
        return self.next_step == self.last_step or self.next_step % self.every_steps == 0

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._depth += 1
        if self._depth > 1 or not self._is_due:
            return
        if not self._has_looked:  # the first of the step's groups: DeepSpeed steps through them one by one
            self._sums.zero_()
        self._has_looked = True
        updated = {id(each) for group in optimizer.param_groups for each in group["params"]}
        for piece in self._pieces:
            if piece.flat.grad is not None and id(piece.flat) in updated:
                self._add(GRADIENT, piece, piece.of(piece.flat.grad))
                self._held.append((piece, piece.of(piece.flat).clone()))

    def _after(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth > 0:
            return
        for piece, weights in self._held:
            self._add(WEIGHT, piece, weights)
            self._add(UPDATE, piece, weights.sub_(piece.of(piece.flat)))
        self._held = []

    def _add(self, what: int, piece: Piece, values: Tensor) -> None:
        for part in values.split(AT_ONCE):  # type: ignore[no-untyped-call]
            norm = torch.linalg.vector_norm(part, dtype=torch.float64)
            self._sums[what, piece.group] += norm.square().to(self._sums.device)

    def _metrics(self, grad_norm: float) -> dict[str, float]:
        gradients, weights, updates = self.engine.sum_over_ranks(self._sums).sqrt().tolist()
        # the optimizer has the gradients as they were clipped
        most = self.engine.config.max_grad_norm
        unclipped = max(1.0, (grad_norm + 1e-6) / most) if most else 1.0
        found = {}
        for name, gradient, weight, update in zip(self._names, gradients, weights, updates, strict=True):
            found[f"grad_norm/{name}"] = gradient * unclipped
            found[f"update_norm/{name}"] = update
            if weight > 0 and math.isfinite(update):
                found[f"update_ratio/{name}"] = update / weight
        return found


def group_names(model: nn.Module) -> dict[str, str]:
    """The group of each parameter: embedding, blocks (one by one, or several as blocks_00-03), norms, head, other."""
    kinds = {name: _kind(module) for name, module in model.named_modules()}
    blocks = [re.match(r"blocks\.(\d+)\.", name) for name, _ in model.named_parameters()]
    num_blocks = 1 + max((int(found[1]) for found in blocks if found), default=-1)
    size = -(-num_blocks // MOST_BLOCK_GROUPS)
    names = {}
    for (name, _), block in zip(model.named_parameters(), blocks, strict=True):
        kind = kinds[name.rpartition(".")[0]]
        names[name] = _block_name(int(block[1]), size, num_blocks) if block and kind != "norms" else kind
    return names


def _kind(module: nn.Module) -> str:
    if isinstance(module, VocabularyHead):
        return "head"
    if isinstance(module, nn.Embedding):
        return "embedding"
    return "norms" if type(module).__name__.endswith("Norm") else "other"


def _block_name(block: int, size: int, num_blocks: int) -> str:
    """Numbers are filled with zeros, so that names sort as blocks do."""
    first = block // size * size
    last = min(first + size, num_blocks) - 1
    return f"block_{first:02d}" if size == 1 else f"blocks_{first:02d}-{last:02d}"


def _pieces(engine: Engine, groups: dict[str, int]) -> Iterator[Piece]:
    """What this rank keeps; at ZeRO 0, where each keeps everything, an even share."""
    for name, place in places_of(engine):
        begin, numel = 0, place.numel
        if engine.stage == 0:
            share = -(-place.numel // dist.get_world_size())
            begin = dist.get_rank() * share
            numel = min(share, place.numel - begin)
        if numel > 0:
            yield Piece(groups[name], place.flat, place.offset + begin, numel)
