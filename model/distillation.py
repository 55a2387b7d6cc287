"""What a student learns from a teacher besides its labels: soft targets, and hidden states.

Soft targets are the teacher's probabilities at a temperature (Hinton et al. 2015, "Distilling the Knowledge in a Neural
Network", arXiv:1503.02531, section 2); hidden states of the last layer are drawn to the teacher's direction (Sanh et
al. 2019, "DistilBERT", arXiv:1910.01108, section 3). Both are summed over the same targets as the loss of the labels,
so that averaging stays exact. A teacher is no part of the student's module: nothing trains, shards or stores it.

Letters: B batch, T time, N targets, C hidden of the student, D of the teacher, V vocab.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.base import LanguageModel
from model.head import Lesson


@dataclass(frozen=True)
class Teacher:
    """A trained model and how much its word counts.

    The loss of a target is (1 - soft_weight) * that of its label + soft_weight * temperature^2 * KL(teacher || student)
    at the temperature + hidden_weight * (1 - cos(hidden state, the teacher's)).
    """

    model: LanguageModel
    "In evaluation mode, on the student's device."
    temperature: float = 1.0
    soft_weight: float = 0.9
    hidden_weight: float = 0.0
    "Above 0 only where both have the same width."

    @torch.no_grad()
    def hidden(self, *given: Any, **named: Any) -> Tensor:
        """What it makes of what the student reads: [B, T, D]."""
        found: Tensor = self.model.hidden(*given, **named)  # type: ignore[operator]  # each kind has its own
        return found

    def lesson(self, hidden: Tensor) -> Lesson:
        """Of its hidden states [N, D]; the logits are made a chunk at a time, as the student's."""
        return Lesson(self._logits_of(hidden), self.temperature, self.soft_weight)

    def _logits_of(self, hidden: Tensor) -> Callable[[slice], Tensor]:
        def logits(rows: slice) -> Tensor:
            with torch.no_grad():
                return torch.as_tensor(self.model.lm_head(hidden[rows]))

        return logits

    def apart(self, hidden: Tensor, taught: Tensor, has_target: Tensor) -> Tensor:
        """hidden_weight * (1 - cos) of each of [N, C] and [N, C], 0 where there is no target [N]: fp32 [N]."""
        cosines = F.cosine_similarity(hidden.float(), taught.float(), dim=-1)
        return self.hidden_weight * (1 - cosines) * has_target
