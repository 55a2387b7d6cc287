"""Answers to prompts: a batch of them at once, with a cache of what has been read.

Letters: B batch, T time, V vocab.
"""

from collections.abc import Callable, Collection, Sequence

import torch

from model.base import LanguageModel
from model.generation.beams import search
from model.generation.reading import Reading, begin_reading
from model.generation.sampling import Repetition, Sampler
from model.generation.settings import Generation
from model.generation.stopping import Decode, Ends

OnToken = Callable[[int, int], None]
"""Called with (row, token id) as each token is chosen."""


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    settings: Generation,
    *,
    eos_ids: Collection[int] = (),
    start_id: int | None = None,
    decode: Decode | None = None,
    on_token: OnToken | None = None,
) -> list[list[int]]:
    """The new token ids of each prompt, without the prompt; of an encoder-decoder, the target of each source.

    A row ends with one of `eos_ids` (kept as its last id), with the token that completes a text of `settings.stop`,
    after `max_new_tokens`, or where the model's max_seq_len is full. What a row answers depends on its prompt, the seed
    and its place in the list alone, save for the rounding of floating-point sums in batches of another shape.

    Args:
        model: a decoder or an encoder-decoder, in evaluation mode, on the device and in the dtype to compute with.
        prompts: token ids, one or more per prompt, which `longest_prompt` bounds; lengths may differ.
        settings: how answers are chosen.
        eos_ids: none: no token ends a row early.
        start_id: what the target of an encoder-decoder begins with; a decoder has none.
        decode: from ids to text; needed where `settings.stop` is given.
        on_token: called as each token is chosen, for streaming; by beam search, once the answers are found.

    Raises:
        ValueError: A setting is out of range, the model writes no text, or a prompt is empty, too long or holds an id
            outside the vocabulary.
    """
    if problems := settings.problems():
        raise ValueError("; ".join(f"{each.what} (allowed: {each.allowed})" for each in problems))
    reading = begin_reading(model, prompts, max_new_tokens=settings.max_new_tokens, start_id=start_id)
    ends = Ends(reading.room, frozenset(eos_ids), settings.stop, decode)
    if settings.num_beams == 1:
        return _one_by_one(reading, settings, ends, on_token)
    answers = search(reading, settings, ends)
    if on_token is not None:
        for row, answer in enumerate(answers):
            for token_id in answer:
                on_token(row, token_id)
    return answers


def _one_by_one(
    reading: Reading, settings: Generation, ends: Ends, on_token: OnToken | None
) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in reading.room]
    going = list(range(len(answers)))
    sampler = Sampler(settings, num_rows=len(answers))
    repetition = Repetition.of(settings, reading)
    input_ids = reading.first_ids
    while True:
        logits = reading.read(input_ids)  # [B, V]
        next_ids = sampler.choose(logits if repetition is None else repetition(logits))  # [B]
        chosen = next_ids.tolist()
        for row in going:
            answers[row].append(chosen[row])
            if on_token is not None:
                on_token(row, chosen[row])
        going = [row for row in going if not ends.ended(row, answers[row])]
        if not going:
            return answers
        if repetition is not None:
            repetition.add(next_ids)
        input_ids = next_ids[:, None]  # [B, 1]
