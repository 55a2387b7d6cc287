"""What a model writes: continuations of prompts, or of the beginnings of held-out rows, beside how those went on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from data.packing import FlatArray
from data.shards import TokenShards
from data.tokenizer import Tokenizer
from model.decoder import Decoder
from model.generation.generate import generate
from model.generation.settings import Generation

PROMPT_TOKENS = 32
"Of a document, at most half of it, given as the prompt."


@dataclass(frozen=True)
class Sampling:
    """How to sample."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True)
class Case:
    """A text to continue, and how it went on where that is known."""

    prompt: str
    ids: list[int]
    reference: str = ""


def from_prompts(prompts: Sequence[str], tokenizer: Tokenizer) -> list[Case]:
    return [Case(text, tokenizer.encode(text).tolist()) for text in prompts]


def from_rows(shards: TokenShards, tokenizer: Tokenizer, *, count: int, reference_tokens: int) -> list[Case]:
    """The first rows: an example's prompt, or the first tokens of a document."""
    cases = []
    for row in range(min(count, shards.num_rows)):
        first, last = (int(place) for place in shards.row_starts[row : row + 2])
        ids = _read(shards.tokens, first, last)
        cut = min(PROMPT_TOKENS, len(ids) // 2)
        if shards.loss_mask is not None:
            cut = _read(shards.loss_mask, first, last).index(1)
        rest = tokenizer.decode(before(ids[cut : cut + reference_tokens], tokenizer.eos_id))
        cases.append(Case(tokenizer.decode(ids[:cut]), ids[:cut], rest))
    return cases


def write_samples(
    model: Decoder, tokenizer: Tokenizer, cases: Sequence[Case], sampling: Sampling
) -> list[dict[str, str]]:
    """Prompt, generated text and reference of each case that fits into the model's context."""
    room = model.config.max_seq_len - sampling.max_new_tokens
    fitting = [case for case in cases if 0 < len(case.ids) <= room]
    if not fitting:
        return []
    ids = [case.ids for case in fitting]
    written = generate(model, ids, Generation(**asdict(sampling)), eos_ids=[tokenizer.eos_id])
    return [
        {
            "prompt": case.prompt,
            "generated": tokenizer.decode(before(new, tokenizer.eos_id)),
            "reference": case.reference,
        }
        for case, new in zip(fitting, written, strict=True)
    ]


def as_markdown(samples: Sequence[dict[str, str]]) -> str:
    """The samples for a reader."""
    parts = ["# Samples\n"]
    for number, sample in enumerate(samples, 1):
        parts.append(f"## {number}\n")
        parts += [f"{name.capitalize()}:\n\n{_block(text)}" for name, text in sample.items() if text]
    return "\n".join(parts)


def before(ids: list[int], eos_id: int) -> list[int]:
    """The ids before the end of the text."""
    return ids[: ids.index(eos_id)] if eos_id in ids else ids


def _read(array: FlatArray, first: int, last: int) -> list[int]:
    values = np.empty(last - first, dtype=np.int64)
    array.read_into(values, first)
    found: list[int] = values.tolist()
    return found


def _block(text: str) -> str:
    """Indented by four, so that no text can break out of it."""
    return "".join(f"    {line}\n" for line in text.splitlines() or [""])
