"""GloVe (Pennington, Socher and Manning 2014, D14-1162): vectors whose products are the logarithms of co-occurrences.

Letters: V words, D width, N entries of the matrix of co-occurrences X, both halves of it.

The loss is the mean over entries of f(X_ij) (w_i . c_j + b_i + d_j - log X_ij)^2 / 2 (equation 8), with
f(x) = min(1, (x / max_count)^exponent) (equation 9). One entry after the other takes a step of AdaGrad (section 4.2),
as the published program does on one thread: squares begin at 1, parameters at U(-0.5, 0.5) / (D + 1), a step's square
is added behind the step, and what is kept is w + c.

Entries that share neither i nor j do not touch each other's parameters, so that a batch of such is the same as one
after the other. An epoch draws two permutations p, q of the words; its batch k holds the entries with
(p_i + q_j) mod V = k, of which no two share a row or a column (blocks of one word of Gemulla et al. 2011,
doi:10.1145/2020408.2020426).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.embeddings.rules import GloveRules

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Entries:
    """Some entries of X, each once; (i, j) and (j, i) are two."""

    rows: Ints
    "[N]: i."
    columns: Ints
    "[N]: j."
    counts: NDArray[np.float64]
    "[N]: X_ij > 0."

    @classmethod
    def both_halves(cls, rows: Ints, columns: Ints, counts: NDArray[np.float64]) -> "Entries":
        """Out of those with i <= j."""
        other = rows != columns
        mirrored = (columns[other], rows[other], counts[other])
        both = (np.concatenate(pair) for pair in zip((rows, columns, counts), mirrored, strict=True))
        return cls(*both)


@dataclass(frozen=True)
class Batch:
    """Entries that share neither row nor column."""

    rows: Tensor
    columns: Tensor
    counts: Tensor


class Glove:
    """The parameters, and their learning.

    Args:
        num_words: V.
        width: D.
        rules: the weights of entries.
        learning_rate: of AdaGrad.
        seed: of the parameters and of the order of entries.
        dtype: of all arithmetic.
    """

    def __init__(
        self,
        num_words: int,
        *,
        width: int,
        rules: GloveRules,
        learning_rate: float = 0.05,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.rules, self.learning_rate, self.dtype = rules, learning_rate, dtype
        self._chance = np.random.default_rng(seed)
        shape = (2, num_words, width + 1)
        drawn = (self._chance.random(shape) - 0.5) / (width + 1)
        self.words, self.contexts = (
            torch.from_numpy(drawn).to(dtype).unbind()
        )  # [V, D + 1]: the last is the bias
        self._word_squares, self._context_squares = torch.ones(shape, dtype=dtype).unbind()

    @property
    def vectors(self) -> NDArray[np.float32]:
        """[V, D]: words and contexts together."""
        summed: NDArray[np.float32] = (self.words + self.contexts)[:, :-1].float().numpy()
        return np.ascontiguousarray(summed)

    def train_epoch(self, parts: Sequence[Callable[[], Entries]]) -> float:
        """One step for each entry of all parts, each in memory alone; the mean loss, each entry's before its step."""
        total, num_entries = 0.0, 0
        for part in self._chance.permutation(len(parts)).tolist():
            entries = parts[part]()
            num_entries += len(entries.rows)
            total += sum(self.step(batch) for batch in self.batches(entries))
        return total / num_entries

    def batches(self, entries: Entries) -> Iterator[Batch]:
        """All entries once, in an order newly drawn."""
        num_words = len(self.words)
        p, q = (self._chance.permutation(num_words) for _ in range(2))
        color = (p[entries.rows] + q[entries.columns]) % num_words
        order = np.argsort(color, kind="stable")
        sizes = np.bincount(color, minlength=num_words)
        arrays = (entries.rows, entries.columns, entries.counts)
        split = [torch.from_numpy(each[order]).split_with_sizes(sizes.tolist()) for each in arrays]
        yield from (Batch(*each) for each in zip(*split, strict=True) if len(each[0]))

    def step(self, batch: Batch) -> float:
        """Learn a batch; the sum of its losses before."""
        w, c = self.words[batch.rows], self.contexts[batch.columns]  # [n, D + 1]
        predicted = (w[:, :-1] * c[:, :-1]).sum(1) + w[:, -1] + c[:, -1]
        error = predicted - batch.counts.log().to(self.dtype)  # [n]
        weight = (batch.counts / self.rules.max_count).clamp(max=1).pow(self.rules.exponent).to(self.dtype)
        weighted = weight * error
        scale = (self.learning_rate * weighted)[:, None]
        w_change, c_change = scale * _but_bias(c), scale * _but_bias(w)
        _descend(self.words, self._word_squares, batch.rows, w, w_change)
        _descend(self.contexts, self._context_squares, batch.columns, c, c_change)
        return 0.5 * float(weighted @ error)


def _but_bias(values: Tensor) -> Tensor:
    """What a product's derivative by the other side is: the vector, and 1 for the bias."""
    derivative = values.clone()
    derivative[:, -1] = 1
    return derivative


def _descend(parameters: Tensor, squares: Tensor, rows: Tensor, values: Tensor, change: Tensor) -> None:
    """AdaGrad on some rows, no row twice; `values` [n, D + 1] are theirs."""
    sums = squares[rows]
    parameters[rows] = values - change / sums.sqrt()
    squares[rows] = sums + change * change
