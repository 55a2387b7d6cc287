"""What becomes of a batch of plain sequences before a model reads it, by the objective: masks, spans, prefixes.

Letters: B sequences, T tokens of each, V vocabulary. A place is the number of a sequence in the endless order of
training, of which, with the seed, every choice is a pure function: see `data.corruption`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from data.batches import IGNORED, Batch, Corruption
from data.corruption import SpanCorruption, TokenMasking, corrupt_spans, draw_prefixes, mask_tokens
from data.packing import Ints
from data.tokenizer import WordEdges


@dataclass(frozen=True)
class Masks(Corruption):
    """Tokens masked at random, to be predicted from both sides; padding is what no token sees."""

    rules: TokenMasking
    seed: int
    mask_id: int
    vocab_size: int
    is_control: NDArray[np.bool_]
    "[V], the tokens that are never masked."
    edges: WordEdges | None = None
    "For whole words."

    def corrupt(self, batch: Batch, places: Ints) -> Batch:
        tokens, is_real = batch["input_ids"], batch["labels"] != IGNORED
        masked = mask_tokens(
            tokens,
            places=places,
            seed=self.seed,
            rules=self.rules,
            mask_id=self.mask_id,
            vocab_size=self.vocab_size,
            may_mask=is_real & ~self.is_control[tokens],
            starts_word=self.edges.starts(tokens) if self.edges else None,
        )
        if not is_real.all():
            masked["attention_mask"] = is_real.astype(np.int64)
        return {name: column for name, column in batch.items() if name not in masked} | masked

    def num_targets(self, batch: Batch, places: Ints) -> Ints:
        if self.rules.whole_words:  # as many as fit, which only drawing them tells
            return count_targets(self.corrupt(batch, places))
        may_mask = (batch["labels"] != IGNORED) & ~self.is_control[batch["input_ids"]]
        return self.rules.num_wanted(may_mask)


@dataclass(frozen=True)
class Spans(Corruption):
    """Spans left out of a source, which the target tells; of sequences without padding."""

    rules: SpanCorruption
    seed: int
    sentinels: Ints
    eos_id: int
    start_id: int
    "What a decoder begins with."

    def corrupt(self, batch: Batch, places: Ints) -> Batch:
        return corrupt_spans(
            batch["input_ids"],
            places=places,
            seed=self.seed,
            rules=self.rules,
            sentinels=self.sentinels,
            eos_id=self.eos_id,
            start_id=self.start_id,
        )

    def num_targets(self, batch: Batch, places: Ints) -> Ints:
        _, of_target = self.rules.lengths(batch["input_ids"].shape[1])
        return np.full(len(places), of_target)


@dataclass(frozen=True)
class Prefixes(Corruption):
    """A beginning of each sequence that all its tokens see whole, and of which none is a target."""

    seed: int

    def corrupt(self, batch: Batch, places: Ints) -> Batch:
        prefix = draw_prefixes(places, batch["input_ids"].shape[1], seed=self.seed)
        labels = batch["labels"].copy()
        labels[:, :-1][prefix[:, 1:]] = IGNORED  # the label is the next token, and that is of the prefix
        return batch | {"labels": labels, "prefix_mask": prefix.astype(np.int64)}

    def num_targets(self, batch: Batch, places: Ints) -> Ints:
        return count_targets(self.corrupt(batch, places))


@dataclass(frozen=True)
class Prompts(Corruption):
    """What stands before the first target of each sequence, its prompt, is seen whole by all of its tokens."""

    keeps_targets: ClassVar[bool] = True

    def corrupt(self, batch: Batch, places: Ints) -> Batch:
        del places
        is_target = batch["labels"] != IGNORED
        # the first target is the label of the prompt's last token
        first = np.where(is_target.any(axis=1), is_target.argmax(axis=1), -1)
        prefix = np.arange(is_target.shape[1]) <= first[:, None]
        return batch | {"prefix_mask": prefix.astype(np.int64)}

    def num_targets(self, batch: Batch, places: Ints) -> Ints:
        del places
        return count_targets(batch)


def count_targets(batch: Batch) -> Ints:
    """Positions with a target in each sequence, [B]."""
    found: Ints = (batch["labels"] != IGNORED).sum(axis=1, dtype=np.int64)
    return found
