"""The loss of a step, of all its targets and of each source's, summed over micro-steps and ranks."""

from dataclasses import dataclass

import torch

from data.batches import TrainingBatches
from data.packing import Ints
from model.objectives import LossSum
from pipeline.training.engine import Engine


@dataclass(frozen=True)
class MeanLoss:
    """In nats a target, of a whole global batch."""

    mean: float
    by_source: dict[str, float]
    "Of each source that the batch is from; empty where there is only one to be from."


class StepLoss:
    """Adds up on the device, and asks the ranks once.

    Args:
        engine: whose losses they are.
        batches: that the step's batches are of.
        step: of the run.
    """

    def __init__(self, engine: Engine, batches: TrainingBatches, step: int) -> None:
        self._engine, self._names = engine, batches.names
        self.of_micro_steps: list[torch.Tensor] = []
        self._targets = batches.targets_by_source(step)
        self._total = torch.zeros((), dtype=torch.float32, device=engine.device)
        self._by_source = torch.zeros(len(batches.names), dtype=torch.float32, device=engine.device)

    @property
    def num_targets(self) -> int:
        """Of the whole global batch."""
        return sum(self._targets)

    def add(self, found: LossSum, sources: Ints) -> None:
        """Add a micro batch, whose rows are of these sources, [B]."""
        self.of_micro_steps.append(found.loss_sum)
        self._total += found.loss_sum
        if self._names:
            sources_of_rows = torch.from_numpy(sources).to(self._engine.device, non_blocking=True)
            self._by_source.index_add_(0, sources_of_rows, found.by_sequence)

    def mean(self) -> MeanLoss:
        """Over all ranks; called by all of them together."""
        sums = torch.cat([self._total[None], self._by_source])  # [1 + number of sources]
        total, *by_source = self._engine.sum_over_ranks(sums).tolist()
        counted = zip(self._names, by_source, self._targets, strict=False)  # a single source has no name
        means = {name: loss / count for name, loss, count in counted if count}
        return MeanLoss(total / self.num_targets, means)
