"""Token shards as what word vectors are learned from: sequences of the words that are learned, as rows of the matrix.

Tokens that are not learned are passed over, so that the words around them become neighbours (Mikolov et al. 2013's and
Pennington et al. 2014's programs do likewise).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.ipc import Place, batches_of, open_batches
from data.shards import TokenFormat
from data.tokenizer import Tokenizer

NOT_LEARNED = -1


class Stretch(NamedTuple):
    """The learned words of one record batch."""

    rows: NDArray[np.int32]  # [num_words]
    starts: NDArray[np.int64]  # [num_documents]: where in `rows` each document begins


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that are learned, the most frequent first, equally frequent ones by id."""

    ids: NDArray[np.int64]
    "[num_words]: token id of each row."
    words: list[str]
    "As the tokenizer's vocabulary spells them."
    counts: NDArray[np.int64]
    "[num_words]."
    vocab_size: int
    "Of the tokenizer."

    @classmethod
    def of(cls, counts: NDArray[np.int64], tokenizer: Tokenizer, *, min_count: int) -> "Vocabulary":
        """Of the tokens seen at least `min_count` times, without control tokens and that of unknown words."""
        can = counts >= min_count
        can[[id_ for id_ in control_ids(tokenizer) if id_ < len(counts)]] = False
        ids = np.flatnonzero(can)
        ids = ids[np.lexsort((ids, -counts[ids]))]
        tokens = tokenizer.tokens()
        return cls(ids, [tokens[id_] for id_ in ids.tolist()], counts[ids], len(counts))

    @property
    def row_of(self) -> NDArray[np.int32]:
        """[vocab_size]: row of each token id, or -1."""
        found = np.full(self.vocab_size, NOT_LEARNED, np.int32)
        found[self.ids] = np.arange(len(self.ids), dtype=np.int32)
        return found


def control_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids that are no words."""
    unknown = [] if tokenizer.unk_id is None else [tokenizer.unk_id]
    return [*tokenizer.special_ids.values(), *unknown]


def count_ids(place: Place, *, tokenizer_hash: str) -> NDArray[np.int64]:
    """[vocab_size]: how often each id is in a shard; `DataError` where it is of another tokenizer."""
    reader = open_batches(place, kind="tokens")
    form = TokenFormat.of(reader.schema, place=place)
    form.require_tokenizer(tokenizer_hash, place=place)
    counts = np.zeros(form.vocab_size, np.int64)
    for batch in batches_of(reader):
        counts += np.bincount(batch.column("input_ids").flatten().to_numpy(), minlength=form.vocab_size)
    return counts


def stretches(place: Place, row_of: NDArray[np.int32]) -> Iterator[Stretch]:
    """The learned words of a shard, a record batch in memory at a time."""
    for batch in batches_of(open_batches(place, kind="tokens")):
        column = batch.column("input_ids")
        rows = row_of[column.flatten().to_numpy()]
        offsets = column.offsets.to_numpy().astype(np.int64)
        is_learned = rows != NOT_LEARNED
        before = np.concatenate(([0], np.cumsum(is_learned)))
        yield Stretch(rows[is_learned], before[offsets[:-1] - offsets[0]])


def sequences(stretch: Stretch, *, longest: int) -> Iterator[NDArray[np.int32]]:
    """Its documents, cut after every `longest` words; none is empty."""
    ends = np.append(stretch.starts[1:], len(stretch.rows))
    for start, end in zip(stretch.starts.tolist(), ends.tolist(), strict=True):
        for begin in range(start, end, longest):
            yield stretch.rows[begin : min(begin + longest, end)]
