"""Sampling from a decoder: a batch of prompts at once, with a KV cache.

Letters: B batch, T time, V vocab.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.decoder import Decoder

OnToken = Callable[[int, int], None]
"""Called with (row, token id) as each token is chosen."""


@torch.inference_mode()
def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    eos_id: int | None = None,
    on_token: OnToken | None = None,
) -> list[list[int]]:
    """The new token ids of each prompt, without the prompt.

    A row ends with `eos_id` (kept as its last id), after `max_new_tokens`, or where prompt and answer fill
    `max_seq_len`. What a row answers depends on its prompt, the seed and its place in the list alone, save for the
    rounding of floating-point sums in batches of another shape.

    Args:
        model: in evaluation mode, on the device and in the dtype to compute with.
        prompts: token ids; one or more per prompt, fewer than the model's max_seq_len; lengths may differ.
        max_new_tokens: >= 1.
        temperature: divides the logits; 0: always the likeliest token; >= 0.
        top_p: sample among the likeliest tokens that together hold this probability (Holtzman et al. 2020); (0, 1].
        seed: row i draws from a generator of its own, seeded with seed + i.
        eos_id: None: nothing ends a row early.
        on_token: called as each token is chosen, for streaming.

    Raises:
        ValueError: An argument is out of range, or a prompt is empty, too long or holds an id outside the vocabulary.
    """
    _check(model, prompts, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p)
    weight = model.embedding.weight
    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.tensor(
        [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=weight.device
    )
    num_padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=weight.device)
    room = [min(max_new_tokens, model.config.max_seq_len - len(prompt)) for prompt in prompts]
    cache = model.new_cache(num_padding=num_padding, capacity=longest + max(room), dtype=weight.dtype)
    sampler = _Sampler(
        temperature, top_p, [torch.Generator().manual_seed(seed + row) for row in range(len(prompts))]
    )
    answers = _Answers(room, eos_id=eos_id, on_token=on_token)
    while True:
        hidden = model.hidden(input_ids, cache=cache)[:, -1]  # [B, C]
        next_ids = sampler.choose(model.lm_head(hidden).float())  # [B]
        answers.extend(next_ids.tolist())
        if answers.ended:
            return answers.ids
        input_ids = next_ids[:, None].to(weight.device)  # [B, 1]


@dataclass
class _Answers:
    """The rows chosen so far, and which of them go on."""

    room: list[int]
    eos_id: int | None
    on_token: OnToken | None
    ids: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = [[] for _ in self.room]
        self._going = set(range(len(self.room)))

    @property
    def ended(self) -> bool:
        return not self._going

    def extend(self, next_ids: list[int]) -> None:
        for row in sorted(self._going):
            self.ids[row].append(next_ids[row])
            if self.on_token is not None:
                self.on_token(row, next_ids[row])
            if next_ids[row] == self.eos_id or len(self.ids[row]) == self.room[row]:
                self._going.remove(row)


@dataclass
class _Sampler:
    temperature: float
    top_p: float
    generators: list[torch.Generator]

    def choose(self, logits: Tensor) -> Tensor:
        """int64 [B] from fp32 logits [B, V]."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        probs, ids = torch.softmax(logits.double() / self.temperature, dim=-1).sort(
            dim=-1, descending=True, stable=True
        )
        up_to = probs.cumsum(dim=-1)  # [B, V]
        kept = up_to - probs < self.top_p  # always the first
        total = (probs * kept).sum(dim=-1, keepdim=True)  # [B, 1]
        # one uniform number per row, drawn on the CPU so that every device samples alike
        uniform = torch.cat(
            [torch.rand(1, generator=generator, dtype=torch.float64) for generator in self.generators]
        )
        place = torch.searchsorted(up_to, uniform[:, None].to(up_to.device) * total, right=True)  # [B, 1]
        last = kept.sum(dim=-1, keepdim=True) - 1  # guards against rounding at the end of the sum
        return ids.gather(1, torch.minimum(place, last))[:, 0]


def _check(
    model: Decoder, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, top_p: float
) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; it must be 0 (greedy) or more")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must be above 0 and at most 1")
    if not prompts:
        raise ValueError("there is no prompt")
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {row} is empty; it needs at least one token")
        if len(prompt) >= model.config.max_seq_len:
            limit = model.config.max_seq_len - 1
            raise ValueError(f"prompt {row} has {len(prompt)} tokens; this model reads at most {limit}")
        if not (min(prompt) >= 0 and max(prompt) < model.vocab_size):
            raise ValueError(f"prompt {row} has ids outside the model's vocabulary of {model.vocab_size}")
