"""Generation with a cache: greedy equals transformers token for token; sampling follows its seed and probabilities."""

from collections import Counter

import pytest
import torch

from model.config import GPT2Config

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [3], [90, 91, 92, 93]]
TINY = GPT2Config(
    vocab_size=8, hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, max_seq_len=12
)


def test_greedy_equals_transformers_token_for_token(model, to_reference, write):
    padded = torch.tensor([[0] * (7 - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (7 - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    theirs = to_reference(model).generate(
        padded, attention_mask=mask, max_new_tokens=30, do_sample=False, pad_token_id=0
    )
    ours = write(model, PROMPTS, max_new_tokens=30)
    assert ours == theirs[:, 7:].tolist()
    assert len({tuple(row) for row in ours}) == 3


def test_a_prompt_answers_alone_as_in_a_batch(model, write):
    together = write(model, PROMPTS, max_new_tokens=20)
    assert together == [write(model, [prompt], max_new_tokens=20)[0] for prompt in PROMPTS]


def test_the_cache_gives_the_logits_of_a_full_forward(model, write):
    prompt = PROMPTS[0]
    answer = write(model, [prompt], max_new_tokens=25)[0]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer]))[0]
    assert answer == logits[len(prompt) - 1 : -1].argmax(-1).tolist()


def test_a_row_ends_with_eos_and_others_go_on(model, write):
    free = write(model, PROMPTS, max_new_tokens=12)
    eos_id = free[0][3]
    ended = write(model, PROMPTS, max_new_tokens=12, eos_ids=[eos_id])
    for row, answer in zip(free, ended, strict=True):
        assert answer == (row[: row.index(eos_id) + 1] if eos_id in row else row)
    assert len(ended[0]) <= 4


def test_rows_fill_the_context_and_no_more(model, write):
    prompts = [[1] * 40, [2] * 47, [3] * 4]
    assert [len(row) for row in write(model, prompts, max_new_tokens=20)] == [8, 1, 20]


def test_sampling_is_reproducible_and_seeds_differ(model, write):
    first, again, other = (
        write(model, PROMPTS, max_new_tokens=10, temperature=1.0, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_equal_prompts_in_a_batch_are_sampled_apart(model, write):
    rows = write(model, [[5, 6]] * 4, max_new_tokens=10, temperature=1.5, seed=0)
    assert len({tuple(row) for row in rows}) == 4


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.6)])
def test_samples_have_the_models_probabilities(make_model, temperature, top_p, write):
    model, draws = make_model(TINY), 4000
    with torch.no_grad():
        probs = torch.softmax(model(torch.tensor([[1, 2, 3]]))[0, -1] / temperature, -1)
    order = probs.argsort(descending=True)
    kept = [int(i) for n, i in enumerate(order) if probs[order[:n]].sum() < top_p]
    counts = Counter(row[0] for row in write(
        model, [[1, 2, 3]] * draws, max_new_tokens=1, temperature=temperature, top_p=top_p, seed=7
    ))  # fmt: skip
    assert set(counts) <= set(kept)
    for token in kept:
        expected = float(probs[token] / probs[kept].sum())
        assert abs(counts[token] / draws - expected) < 4 * (expected * (1 - expected) / draws) ** 0.5 + 1e-3


def test_tokens_are_streamed_as_they_are_chosen(model, write):
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    written = write(model, PROMPTS, max_new_tokens=9, on_token=lambda row, token: seen[row].append(token))
    assert written == [seen[0], seen[1], seen[2]]


def test_bf16_generates(model, write):
    rows = write(model.bfloat16(), PROMPTS, max_new_tokens=5)
    assert [len(row) for row in rows] == [5, 5, 5]


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ([[1], []], {}, "prompt 1 is empty"),
        ([], {}, "no prompt"),
        ([[1] * 12], {}, "12 tokens; this model reads at most 11"),
        ([[8]], {}, "outside the model's vocabulary of 8"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens is 0"),
        ([[1]], {"temperature": -1.0}, "temperature is -1.0"),
        ([[1]], {"top_p": 0.0}, "top_p is 0.0"),
    ],
)
def test_wrong_arguments_are_named(make_model, prompts, options, words, write):
    with pytest.raises(ValueError, match=words):
        write(make_model(TINY), prompts, **{"max_new_tokens": 3} | options)


def letters(ids):
    """Three letters for each token, so that texts begin and end anywhere in tokens."""
    return "".join(f"{chr(97 + token // 26)}{chr(97 + token % 26)}." for token in ids)


def test_a_text_that_spans_tokens_ends_an_answer(model, write):
    free = write(model, PROMPTS, max_new_tokens=12)
    stop = letters(free[0])[10:14]  # of the 4th and 5th token
    for row, answer in zip(
        free, write(model, PROMPTS, max_new_tokens=12, stop=(stop,), decode=letters), strict=True
    ):
        ends = [n for n in range(1, 13) if stop in letters(row[:n])]
        assert answer == row[: ends[0] if ends else 12]
    assert len(write(model, PROMPTS[:1], max_new_tokens=12, stop=("none", stop), decode=letters)[0]) <= 5


def test_a_beam_ends_at_a_text(model, write):
    free = write(model, PROMPTS, max_new_tokens=12, num_beams=3)
    stop = letters(free[0])[1:4]
    ended = write(
        model, PROMPTS, max_new_tokens=12, num_beams=3, stop=(stop,), decode=letters, length_penalty=0.0
    )
    assert all(stop not in letters(row[:-1]) for row in ended)
    assert any(stop in letters(row) for row in ended)


def test_beams_are_streamed_once_they_are_found(model, write):
    seen = []
    rows = write(model, PROMPTS, max_new_tokens=5, num_beams=2, on_token=lambda *each: seen.append(each))
    assert seen == [(row, token) for row, answer in enumerate(rows) for token in answer]


def test_more_beams_than_tokens(make_model, write):
    assert len(write(make_model(TINY), [[1]], max_new_tokens=3, num_beams=20)[0]) == 3


def test_rows_of_a_full_context_are_searched_as_alone(model, write):
    prompts = [[1] * 40, [2] * 47, [3] * 4]
    options = {"max_new_tokens": 20, "num_beams": 3}
    rows = write(model, prompts, **options)
    assert rows == [write(model, [prompt], **options)[0] for prompt in prompts]
    assert [len(row) for row in rows] == [8, 1, 20]
