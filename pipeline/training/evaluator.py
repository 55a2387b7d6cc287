"""Loss on held-out text while training: exact over the same sequences at every step, for any number of ranks.

It is that of what the artifact would hold: of the mean of the weights where one is kept.
"""

import math
from dataclasses import dataclass, field

import torch

from data.batches import Corruption, SequencePool, TrainingBatches
from pipeline.training.average import averaged
from pipeline.training.engine import Engine
from pipeline.training.objective import Objective, reported_of
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import Recorder
from pipeline.training.timing import Part


@dataclass(frozen=True)
class HeldOut:
    """Held-out sequences: the first global batch of `batches` holds each of them once."""

    batches: TrainingBatches
    num_sequences: int
    targets_per_byte: float
    "Targets of all the held-out text over its UTF-8 bytes."
    objective: Objective = Objective.causal_lm
    "What is asked of them."


def hold_out(
    pool: SequencePool,
    *,
    max_sequences: int,
    targets_per_byte: float,
    corruption: Corruption | None = None,
    objective: Objective = Objective.causal_lm,
) -> HeldOut:
    """At most `max_sequences` of the pool's sequences, drawn once, and corrupted the same way each time."""
    num_sequences = min(max_sequences, pool.num_sequences)
    batches = TrainingBatches([pool], sequences_per_step=num_sequences, seed=0, corruption=corruption)
    return HeldOut(batches, num_sequences, targets_per_byte, objective)


@dataclass
class Evaluator:
    """Evaluates when due: every so many steps, and at the end."""

    engine: Engine
    held_out: HeldOut | None
    ranks: Ranks
    recorder: Recorder
    every_steps: int
    "0: at the end only."
    last_step: int
    metrics: dict[str, float] = field(default_factory=dict)
    "Of the newest evaluation."

    def offer(self, step: int) -> None:
        """Called after `step` updates."""
        if self.held_out is None:
            return
        if step == self.last_step or (self.every_steps and step % self.every_steps == 0):
            with self.engine.timing.part(Part.evaluation), averaged(self.engine):
                self.metrics = self.evaluate(self.held_out)
            self.recorder.add(step, self.metrics)

    def evaluate(self, held_out: HeldOut) -> dict[str, float]:
        """What the objective reports of the held-out targets: their mean loss in nats, and what follows from it."""
        shares = self._shares(held_out.num_sequences)
        mine = shares[self.ranks.rank :: self.ranks.world_size]
        rounds = -(-len(shares) // self.ranks.world_size)
        total = torch.zeros(3, dtype=torch.float64, device=self.engine.device)  # losses, targets, right ones
        self.engine.objective.eval()
        for turn in range(rounds):
            # Under ZeRO-3 a forward pass is a collective: a rank without work repeats some, and does not count it.
            micro_step, size = mine[turn] if turn < len(mine) else shares[0]
            batch = held_out.batches.batch(
                0, rank=0, world_size=1, micro_step=micro_step, micro_batch_size=size
            )
            found = self.engine.evaluate(batch)
            if turn < len(mine):
                right = torch.zeros_like(found.num_targets) if found.num_right is None else found.num_right
                total += torch.stack([found.loss_sum.double(), found.num_targets.double(), right.double()])
        self.engine.objective.train()
        loss_sum, num_targets, num_right = self.engine.sum_over_ranks(total).tolist()
        known = _metrics(loss_sum, num_targets, held_out.targets_per_byte)
        known["eval/accuracy"] = num_right / num_targets
        return {name: known[name] for name in reported_of(held_out.objective)}

    def _shares(self, num_sequences: int) -> list[tuple[int, int]]:
        """(micro step, micro batch size) of the batches that cover every sequence once; the rest one by one."""
        size = self.engine.split.micro_batch_size
        whole = num_sequences // size
        return [(index, size) for index in range(whole)] + [
            (place, 1) for place in range(whole * size, num_sequences)
        ]


def _metrics(loss_sum: float, num_targets: float, targets_per_byte: float) -> dict[str, float]:
    loss = loss_sum / num_targets
    return {
        "eval/loss": loss,
        "eval/perplexity": math.exp(min(loss, 700.0)),  # exp(710) is no longer a float
        "eval/bits_per_byte": loss / math.log(2) * targets_per_byte,
    }
