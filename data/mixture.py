"""Several sources in one order: which source each sequence of a run comes from, computed and never stored.

The counts of a whole run are exact. Inside, the run is cut into blocks; each block gets its part of every count,
rounded so that at its end no source is more than one sequence off, and is shuffled by the keyed permutation of
`data.order`. So the source of any sequence costs O(1), and every prefix of the run has about the shares of the whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from data.errors import DataError, Problem
from data.order import Ids, permute

BLOCK = 1 << 12
SHUFFLE = "mixture"
"The stream of the order that shuffles a block."


@dataclass
class MixtureRules:
    """How much of each source a training sees; sources are called by their node."""

    weights: dict[str, float] = field(default_factory=dict)
    "Share of the tokens by source, on any scale; 0 leaves a source out. Empty: by size, see `temperature`."
    temperature: float = 1.0
    """Without weights a source of n tokens has a share in proportion to n ** (1 / temperature): at 1 as they are, above
    it more even (Conneau et al. 2020, "Unsupervised Cross-lingual Representation Learning at Scale", section 3.1)."""
    max_epochs: dict[str, float] = field(default_factory=dict)
    "How often a source is seen at most; what it cannot give is shared out among the others."

    def problems(self) -> list[Problem]:
        found = []
        if self.weights and self.temperature != 1:
            found.append(
                Problem("temperature", f"{self.temperature}", "1 beside weights, which say the shares")
            )
        if not self.temperature >= 1:
            found.append(Problem("temperature", f"{self.temperature}", "at least 1"))
        if self.weights and not sum(self.weights.values()) > 0:
            found.append(Problem("weights", f"{self.weights}", "at least one above 0"))
        for name, value in self.weights.items():
            if not 0 <= value < float("inf"):
                found.append(Problem(f"weights.{name}", f"{value}", "a number of 0 or more"))
        for name, value in self.max_epochs.items():
            if not value > 0:
                found.append(Problem(f"max_epochs.{name}", f"{value}", "a number above 0"))
        return found

    def name_problems(self, names: Sequence[str]) -> list[Problem]:
        """Weights must name every source, and caps only sources."""
        found, known = [], ", ".join(names)
        if self.weights and set(self.weights) != set(names):
            given = ", ".join(self.weights)
            found.append(Problem("weights", f"weights are given for {given}", f"one for each of {known}"))
        if unknown := ", ".join(sorted(set(self.max_epochs) - set(names))):
            found.append(Problem("max_epochs", f"there is no source {unknown}", f"names among {known}"))
        return found


def plan_counts(rules: MixtureRules, sizes: Mapping[str, int], *, num_draws: int) -> dict[str, int]:
    """How many of `num_draws` sequences each source gives; they add up.

    Args:
        rules: shares and caps.
        sizes: sequences of each source.
        num_draws: sequences of the whole run.

    Raises:
        DataError: the caps leave too little.
    """
    caps = {name: _cap(rules, name, size, num_draws) for name, size in sizes.items()}
    wanted = {name: share for name, share in _shares(rules, sizes).items() if share > 0}
    if sum(caps[name] for name in wanted) < num_draws:
        raise DataError(
            f"within max_epochs the sources give {sum(caps[name] for name in wanted):,} sequences of the {num_draws:,}",
            where="mixture.max_epochs",
            allowed="sources that last for the run",
            do="raise the caps, add text, or train for fewer steps",
        )
    counts = dict.fromkeys(sizes, 0)
    left = num_draws
    while full := [name for name in wanted if _part(wanted, name, left) >= caps[name]]:
        for name in full:
            counts[name] = caps[name]
            del wanted[name]
        left = num_draws - sum(counts.values())
    return counts | _rounded({name: _part(wanted, name, left) for name in wanted}, left)


def _shares(rules: MixtureRules, sizes: Mapping[str, int]) -> dict[str, float]:
    if rules.weights:
        return {name: rules.weights[name] for name in sizes}
    return {name: size ** (1 / rules.temperature) for name, size in sizes.items()}


def _cap(rules: MixtureRules, name: str, size: int, num_draws: int) -> int:
    epochs = rules.max_epochs.get(name)
    return num_draws if epochs is None else min(num_draws, int(epochs * size))


def _part(shares: Mapping[str, float], name: str, total: int) -> float:
    return total * shares[name] / sum(shares.values())


def _rounded(parts: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to `total`: the largest remainders are rounded up."""
    counts = {name: int(part) for name, part in parts.items()}
    by_remainder = sorted(parts, key=lambda name: counts[name] - parts[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


class Mixture:
    """The order of the sources: `counts[i]` sequences of source i, the whole run long.

    Args:
        counts: sequences of each source.
        seed: of the shuffling.
    """

    def __init__(self, counts: Sequence[int], *, seed: int) -> None:
        self.num_draws, self._seed = sum(counts), seed
        self._bounds = [0, *accumulate(counts)]
        smallest = min(count for count in counts if count)
        # two of the rarest in a block keep every block's share of it above zero, whatever the rounding
        self._block = min(self.num_draws, max(BLOCK, -(-2 * self.num_draws // smallest)))

    def draw(self, first: int, *, count: int) -> tuple[Ids, Ids]:
        """Source and place in its own endless order, for each of the sequences first, first + 1, ...; both [count]."""
        assert 0 <= first <= self.num_draws - count, f"[{first}, {first + count}) of {self.num_draws}"
        drawn = first + np.arange(count, dtype=np.int64)
        blocks = drawn // self._block
        sources, places = np.empty_like(drawn), np.empty_like(drawn)
        for block in np.unique(blocks).tolist():
            here = blocks == block
            sources[here], places[here] = self._within(block, drawn[here] - block * self._block)
        return sources, places

    def _within(self, block: int, offsets: Ids) -> tuple[Ids, Ids]:
        begin = block * self._block
        end = min(begin + self._block, self.num_draws)
        before, until = self._counts_before(begin), self._counts_before(end)
        stops = np.cumsum(until - before)
        shuffled = permute(offsets, num_items=end - begin, seed=self._seed, epoch=block, stream=SHUFFLE)
        sources = np.searchsorted(stops, shuffled, side="right")
        starts = stops - (until - before)
        return sources, before[sources] + shuffled - starts[sources]

    def _counts_before(self, place: int) -> Ids:
        """How many of the first `place` sequences each source gives, [num_sources]; no product overflows in Python."""
        given = [place * bound // self.num_draws for bound in self._bounds]
        return np.array([high - low for low, high in pairwise(given)], dtype=np.int64)
