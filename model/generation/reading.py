"""What a model has read of each row, and the logits of what follows: of decoders, and of encoder-decoders.

Letters: B batch, T time, S time of the source, C hidden, V vocab.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.base import LanguageModel
from model.cache import Cache
from model.config import classes_of
from model.decoder import Decoder
from model.encoder_decoder import EncoderDecoder


@dataclass
class Reading:
    """A batch of rows that a model goes on with."""

    hidden: Callable[[Tensor], Tensor]
    "From the next ids [B, T] to their hidden states [B, T, C]."
    model: LanguageModel
    cache: Cache
    first_ids: Tensor
    "int64 [B, T], on the model's device: what is read first, padded on the left."
    beginnings: list[list[int]]
    "The same without padding."
    room: list[int]
    "Tokens that may follow in each row."

    def read(self, ids: Tensor) -> Tensor:
        """fp32 logits [B, V] of what follows the next ids [B, T]."""
        logits: Tensor = self.model.lm_head(self.hidden(ids)[:, -1])
        return logits.float()


def writer(model: LanguageModel) -> Decoder | EncoderDecoder:
    """The model itself, as one that writes text. Raises ValueError where its architecture does not."""
    if isinstance(model, Decoder | EncoderDecoder) and model.config.has_lm_head:
        return model
    what = f"{model.config.architecture} model" + (" with classes" if classes_of(model.config) else "")
    raise ValueError(
        f"a {what} writes no text; allowed: a decoder or an encoder-decoder, such as llama or t5"
    )


def longest_prompt(model: LanguageModel) -> int:
    """Tokens of a prompt, at most: a decoder's answer needs room behind it."""
    return model.config.max_seq_len - (0 if isinstance(model, EncoderDecoder) else 1)


def begin_reading(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, start_id: int | None
) -> Reading:
    """Nothing is read yet but the sources of an encoder-decoder. Raises ValueError; see `generate`."""
    model = writer(model)
    _check_prompts(model, prompts)
    if isinstance(model, Decoder):
        return _of_decoder(model, prompts, max_new_tokens)
    if start_id is None or not 0 <= start_id < model.vocab_size:
        raise ValueError(
            f"start_id is {start_id}; the target of an encoder-decoder begins with an id of its vocabulary"
        )
    return _of_encoder_decoder(model, prompts, max_new_tokens, start_id)


def _of_decoder(model: Decoder, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Reading:
    weight = model.embedding.weight
    longest = max(len(prompt) for prompt in prompts)
    padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    num_padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=weight.device)
    room = [min(max_new_tokens, model.config.max_seq_len - len(prompt)) for prompt in prompts]
    cache = model.new_cache(num_padding=num_padding, capacity=longest + max(room), dtype=weight.dtype)
    return Reading(
        lambda ids: model.hidden(ids, cache=cache),
        model,
        cache,
        first_ids=torch.tensor(padded, device=weight.device),
        beginnings=[list(prompt) for prompt in prompts],
        room=room,
    )


def _of_encoder_decoder(
    model: EncoderDecoder, sources: Sequence[Sequence[int]], max_new_tokens: int, start_id: int
) -> Reading:
    device = model.embedding.weight.device
    longest = max(len(source) for source in sources)
    input_ids = torch.tensor([[*source, *[0] * (longest - len(source))] for source in sources], device=device)
    lengths = torch.tensor([len(source) for source in sources], device=device)
    mask = (
        None
        if bool((lengths == longest).all())
        else (torch.arange(longest, device=device) < lengths[:, None]).long()
    )  # [B, S]
    room = min(max_new_tokens, model.config.max_seq_len)
    memory = model.encode(input_ids, attention_mask=mask)  # [B, S, C]
    cache = model.new_cache(memory, attention_mask=mask, capacity=room)
    return Reading(
        lambda ids: model.decode(ids, cache.memory, attention_mask=cache.attention_mask, cache=cache),
        model,
        cache,
        first_ids=torch.full((len(sources), 1), start_id, device=device),
        beginnings=[[start_id] for _ in sources],
        room=[room] * len(sources),
    )


def _check_prompts(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
    if not prompts:
        raise ValueError("there is no prompt")
    longest = longest_prompt(model)
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {row} is empty; it needs at least one token")
        if len(prompt) > longest:
            raise ValueError(f"prompt {row} has {len(prompt)} tokens; this model reads at most {longest}")
        if not (min(prompt) >= 0 and max(prompt) < model.vocab_size):
            raise ValueError(f"prompt {row} has ids outside the model's vocabulary of {model.vocab_size}")
