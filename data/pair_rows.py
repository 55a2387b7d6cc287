"""Pairs for encoder-decoders: an example's prompt as source, its response as target, each padded on the right.

Letters: B sequences, S tokens of the longest source of a batch, T of the longest target.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.batches import IGNORED, Batch, SequencePool, Span
from data.errors import DataError
from data.example_rows import PAD_MULTIPLE
from data.packing import Ints
from data.shards import TokenShards


class PairSequences(SequencePool):
    """One example per sequence: `input_ids`, `attention_mask` [B, S], `decoder_input_ids`, `labels` [B, T].

    A source ends with the end-of-text id, as a target does. What is longer than `seq_len` is cut on its right. Raises
    `DataError` where the rows are no examples.

    Args:
        shards: whose loss mask marks the response, which ends each row.
        seq_len: tokens of a source at most, its end among them, and of a target.
        start_id: what a decoder begins with.
    """

    def __init__(self, shards: TokenShards, *, seq_len: int, start_id: int) -> None:
        if shards.loss_mask is None:
            raise DataError(
                "these tokens are of plain text, and pairs of a source and a target are asked for",
                where=str(shards.paths[0].parent),
                allowed="tokenized examples",
                do="tokenize the artifact of an examples stage, or choose another objective",
            )
        self.shards, self.seq_len, self.start_id = shards, seq_len, start_id
        starts, self._stops = shards.row_starts[:-1], shards.row_starts[1:]
        responses = shards.loss_mask.sums(starts, self._stops)
        self._begins = self._stops - responses  # of the responses
        self.targets_of_row = np.minimum(responses, seq_len)
        self.rows = np.flatnonzero(responses)
        if not len(self.rows):
            raise DataError(
                f"none of {shards.num_rows} examples has a response",
                where=str(shards.paths[0].parent),
                allowed="examples whose loss_mask marks a response",
                do="look at the rows with `headrace inspect`",
            )

    @property
    def num_sequences(self) -> int:
        return len(self.rows)

    def batch(self, sequences: Ints) -> Batch:
        rows = self.rows[sequences]
        eos_id = self.shards.format.eos_id
        sources = [np.append(self._read(*each), eos_id) for each in self._sources(rows)]
        targets = [self._read(begin, begin + count) for begin, count in self._targets(rows)]
        input_ids, is_real = self._padded(sources, fill=eos_id)
        labels, is_target = self._padded(targets, fill=IGNORED)
        begun = np.where(is_target, labels, eos_id)
        start = np.full((len(rows), 1), self.start_id, dtype=np.int64)
        return {
            "input_ids": input_ids,
            "attention_mask": is_real.astype(np.int64),
            "decoder_input_ids": np.concatenate((start, begun[:, :-1]), axis=1),
            "labels": labels,
        }

    def num_targets(self, sequences: Ints) -> int:
        return int(self.targets_of_row[self.rows[sequences]].sum())

    def spans(self, sequence: int) -> list[Span]:
        row = int(self.rows[sequence])
        return [Span(row, *self.shards.row_starts[row : row + 2].tolist())]

    def _sources(self, rows: Ints) -> list[tuple[int, int]]:
        starts = self.shards.row_starts[rows]
        stops = np.minimum(self._begins[rows], starts + self.seq_len - 1)
        return list(zip(starts.tolist(), stops.tolist(), strict=True))

    def _targets(self, rows: Ints) -> list[tuple[int, int]]:
        return list(zip(self._begins[rows].tolist(), self.targets_of_row[rows].tolist(), strict=True))

    def _read(self, start: int, stop: int) -> Ints:
        return self.shards.tokens.read(start, stop).astype(np.int64)

    def _padded(self, texts: list[Ints], *, fill: int) -> tuple[Ints, NDArray[np.bool_]]:
        """[B, longest, rounded up], and where there is a token."""
        longest = max(map(len, texts))
        width = max(longest, min(self.seq_len, -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE))
        out = np.full((len(texts), width), fill, dtype=np.int64)
        for row, text in zip(out, texts, strict=True):
            row[: len(text)] = text
        lengths = np.array([len(text) for text in texts])
        return out, np.arange(width) < lengths[:, None]


@dataclass(frozen=True)
class Labels:
    """What responses say of their prompts, and the words for one that does not."""

    read: Callable[[tuple[int, ...]], float | None]
    "The label that the tokens of a response are; None: none."
    dtype: type[np.int64] | type[np.float32]
    fault: str
    allowed: str
    do: str


def class_labels(class_ids: Mapping[tuple[int, ...], int]) -> Labels:
    """The number of a class, by the tokens of its name."""
    return Labels(
        class_ids.get,
        np.int64,
        f"names none of the {len(class_ids)} classes",
        "responses that are the name of a class, and nothing else",
        "add the class to classes, or look at the row with `headrace inspect`",
    )


def number_labels(decode: Callable[[Sequence[int]], str]) -> Labels:
    """The number that the text of a response is."""

    def number(response: tuple[int, ...]) -> float | None:
        try:
            found = float(decode(response))
        except ValueError:
            return None
        return found if math.isfinite(found) else None

    return Labels(
        number,
        np.float32,
        "is no number",
        "responses that are a number, such as 3.5, and nothing else",
        "look at the row with `headrace inspect`, or correct the field that responses are taken from",
    )


class LabelledSequences(PairSequences):
    """One example per sequence: its prompt, and as label [B] what its response says of it: a class, or a number.

    Raises `DataError` where a response is no label.

    Args:
        shards: of tokenized examples.
        seq_len: tokens of a text at most, with those around it.
        around: ids before and behind each text, one of whose hidden states may stand for all of it.
        labels: what responses may say.
    """

    def __init__(
        self, shards: TokenShards, *, seq_len: int, around: tuple[list[int], list[int]], labels: Labels
    ) -> None:
        super().__init__(shards, seq_len=seq_len, start_id=shards.format.eos_id)
        self._before, self._behind = around
        found = [self._label(row, labels) for row in self.rows.tolist()]
        self._labels: Any = np.array(found, dtype=labels.dtype)  # numbers are no Ints

    def batch(self, sequences: Ints) -> Batch:
        eos_id = self.shards.format.eos_id
        rows = self.rows[sequences]
        room = self.seq_len - len(self._before) - len(self._behind)
        texts = [
            np.concatenate((self._before, self._read(start, min(stop, start + room)), self._behind))
            for start, stop in self._sources(rows)
        ]
        input_ids, is_real = self._padded(texts, fill=eos_id)
        return {
            "input_ids": input_ids,
            "attention_mask": is_real.astype(np.int64),
            "labels": self._labels[sequences],
        }

    def num_targets(self, sequences: Ints) -> int:
        return len(sequences)

    def _label(self, row: int, labels: Labels) -> float:
        begin, stop = int(self._begins[row]), int(self._stops[row])
        found = labels.read(tuple(self._read(begin, stop).tolist())[:-1])  # without its end
        if found is None:
            raise DataError(
                f'the response of example "{self.shards.row_name(row)}" {labels.fault}',
                where=str(self.shards.paths[0].parent),
                allowed=labels.allowed,
                do=labels.do,
            )
        return found
