"""Supervised examples: a prompt, the response to learn, and their form as tokens with a loss mask."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from data.ipc import BatchWriter, Place, batches_of, check_columns, open_batches
from data.shards import TokenFormat, TokenRow
from data.tokenizer import Tokenizer

EXAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("metadata", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Example:
    """One supervised item."""

    id: str
    "The document's id, and where one document gives several, what tells them apart."
    source: str
    "The document's source."
    prompt: str
    "What the model is given."
    response: str
    "What it is to answer; not empty."
    metadata: str = ""
    "JSON object, or nothing."


class Refusal(Enum):
    """Why something that could have been an example is none; the names of the counters."""

    SYNTAX_ERROR = "syntax_error"  # the source code cannot be parsed
    NO_DOCSTRING = "no_docstring"
    ONE_LINE = "one_line"  # the docstring shares a line with other code
    NO_BODY = "no_body"  # nothing but the docstring
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"  # a field is no string
    INVALID_UNICODE = "invalid_unicode"  # a lone surrogate
    EMPTY_PROMPT = "empty_prompt"
    EMPTY_RESPONSE = "empty_response"
    PROMPT_TOO_LONG = "prompt_too_long"  # in characters, by ExampleRules
    TOO_MANY_TOKENS = "too_many_tokens"  # prompt, response and end of text together


@dataclass(frozen=True, slots=True)
class Refused:
    """A candidate that is no example."""

    id: str
    source: str
    reason: Refusal
    detail: str = ""


@dataclass
class ExampleCounters:
    """num_candidates = num_examples + the sum of `refused`."""

    num_candidates: int = 0
    num_examples: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)

    def add(self, outcome: object) -> None:
        """Count an outcome: a `Refused`, or anything else as an example."""
        self.num_candidates += 1
        if isinstance(outcome, Refused):
            self.refused[outcome.reason] += 1
        else:
            self.num_examples += 1

    def as_dict(self) -> dict[str, int]:
        """Flat names for a manifest: candidates, examples, and refused/<reason> for each that occurred."""
        counts = {
            f"refused/{reason.value}": self.refused[reason] for reason in Refusal if self.refused[reason]
        }
        return {"candidates": self.num_candidates, "examples": self.num_examples} | counts


def tokenize_example(
    example: Example, *, tokenizer: Tokenizer, max_tokens: int | None = None
) -> TokenRow | Refused:
    """Prompt, response and end-of-text ids in a row; the mask is 1 on the response and the end of text.

    Prompt and response are encoded apart, so that the prompt's ids are those that generation starts from. More
    than `max_tokens` in all is refused, never cut: half an answer teaches the model to stop in the middle.
    """
    prompt, response = tokenizer.encode_batch([example.prompt, example.response])
    num_tokens = len(prompt) + len(response) + 1
    if max_tokens is not None and num_tokens > max_tokens:
        return Refused(example.id, example.source, Refusal.TOO_MANY_TOKENS, f"{num_tokens} of {max_tokens}")
    ids = np.concatenate([prompt, response, np.array([tokenizer.eos_id], dtype=np.uint32)])
    mask = np.zeros(num_tokens, dtype=np.uint8)
    mask[len(prompt) :] = 1
    return TokenRow(example.id, example.source, len(example.response.encode()), ids, mask)


def token_format(tokenizer: Tokenizer, *, has_loss_mask: bool) -> TokenFormat:
    """What shards of this tokenizer's ids say of themselves."""
    return TokenFormat(tokenizer.hash, tokenizer.vocab_size, tokenizer.eos_id, has_loss_mask)


class ExampleWriter:
    """Writes examples to one file, a record batch in memory at a time; the same examples give the same bytes."""

    def __init__(self, place: Place) -> None:
        self._writer = BatchWriter(place, schema=EXAMPLE_SCHEMA, to_arrays=_to_arrays)

    @property
    def num_rows(self) -> int:
        return self._writer.num_rows

    def write(self, example: Example) -> None:
        num_bytes = 4 * (len(example.prompt) + len(example.response)) + len(example.metadata) + 64
        self._writer.write(example, num_bytes=num_bytes)

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def _to_arrays(examples: list[Example]) -> list[pa.Array]:
    return [
        pa.array([getattr(example, each.name) for example in examples], each.type) for each in EXAMPLE_SCHEMA
    ]


def read_examples(place: Place) -> Iterator[Example]:
    """The examples of one file in order; `DataError` where it is not a whole file of examples."""
    reader = open_batches(place, kind="examples")
    check_columns(reader, schema=EXAMPLE_SCHEMA, kind="examples", place=place)
    for batch in batches_of(reader):
        for fields in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Example(*fields)
