"""The matrix of co-occurrences, counted one task per shard and put together one task per part."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.vectors.cooccurrence import Pairs, count_pairs, parts_of, unit_of
from data.vectors.corpus import Vocabulary, stretches
from pipeline.dag.arrays import load_array, save_array
from pipeline.dag.folder import Folder
from pipeline.dag.stage import StageContext
from pipeline.stages.sharding import Shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.embeddings.glove import Entries

PAIRS, MATRIX = "pairs", "cooccurrences"
"Folders of the scratch: of pairs shard by shard, and of pairs put together."


@dataclass(frozen=True)
class Matrix:
    """Where the parts of the upper half lie."""

    folder: Folder
    parts: list[str]
    num_words: int
    num_pairs: int
    "In all parts; those of a word with another are two entries."
    unit: int
    "Of the whole numbers in it, that make 1."

    def entries(self) -> "list[Callable[[], Entries]]":
        """What reads each part; where there is one only, it is read once."""
        if len(self.parts) == 1:
            held = self._entries(self.parts[0])
            return [lambda: held]
        return [partial(self._entries, part) for part in self.parts]

    def _entries(self, part: str) -> "Entries":
        from model.embeddings.glove import Entries

        keys, units = load_array(self.folder, part)
        return Entries.both_halves(keys // self.num_words, keys % self.num_words, units / self.unit)


def count_matrix(
    context: StageContext, shards: list[Shard], vocabulary: Vocabulary, *, window: int
) -> Matrix:
    """Count the pairs of each shard, and sum those of all shards part by part.

    Raises:
        DataError: there are none.
    """
    ranges, scratch = parts_of(vocabulary.counts, window=window), context.scratch
    pairs_of = {
        numbered(number): scratch.child(f"{PAIRS}/{numbered(number)}") for number in range(len(shards))
    }
    items = {
        name: (*shard, vocabulary.row_of, ranges, window, folder)
        for shard, (name, folder) in zip(shards, pairs_of.items(), strict=True)
    }
    counted = context.map(count_shard_pairs, items)
    runs = [
        pairs_of[name].child(numbered(run)) for name, each in counted.items() for run in range(each["runs"])
    ]
    target = scratch.child(MATRIX)
    parts = {numbered(part): (runs, numbered(part), target) for part in range(len(ranges))}
    sums = {name: each["pairs"] for name, each in context.map(sum_part, parts, unit="parts").items()}
    filled = [name for name, num_pairs in sums.items() if num_pairs]
    if not filled:
        raise DataError(
            "no two learned words are near each other",
            where=f"stages.{context.node}.inputs.tokens",
            allowed="documents of at least two words that are frequent enough",
            do="lower min_count, or learn from longer texts",
        )
    return Matrix(target, filled, len(vocabulary.words), sum(sums.values()), unit_of(window))


def count_shard_pairs(
    folder: Folder,
    name: str,
    row_of: NDArray[np.int32],
    ranges: list[tuple[int, int]],
    window: int,
    scratch: Folder,
) -> dict[str, Any]:
    """Pairs of one shard, in runs, each in its parts."""
    num_words, runs = ranges[-1][1], 0
    with folder.opening(name) as source:
        for pairs in count_pairs(stretches(source, row_of), num_words=num_words, window=window):
            for part, (begin, end) in enumerate(ranges):
                found = pairs.between(begin, end, num_words=num_words)
                save_array(scratch, f"{numbered(runs)}/{numbered(part)}", np.stack([found.keys, found.units]))
            runs += 1
    return {"runs": runs}


def sum_part(runs: list[Folder], part: str, target: Folder) -> dict[str, Any]:
    """One part of the matrix: that of all runs, one after the other in memory."""
    pairs = Pairs.none()
    for run in runs:
        pairs = Pairs.summed([pairs, Pairs(*load_array(run, part))])
    save_array(target, part, np.stack([pairs.keys, pairs.units]))
    return {"pairs": len(pairs.keys)}


def numbered(number: int) -> str:
    return f"{number:05d}"
