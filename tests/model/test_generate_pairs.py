"""Encoder-decoders write with a cache what they write without one; every architecture can search by beams."""

import pytest
import torch
import torch.nn.functional as F

SOURCES = [[5, 6, 7, 8, 9, 10, 11], [3], [90, 91, 92, 93]]
START = 2


@pytest.fixture
def pair(pair_config, make_model):
    return make_model(pair_config)


def greedy_without_cache(model, source, num_tokens):
    target = [START]
    for _ in range(num_tokens):
        target.append(int(model(torch.tensor([source]), torch.tensor([target]))[0, -1].argmax()))
    return target[1:]


def test_the_cache_changes_nothing_and_sources_of_any_length_go_together(pair, write):
    with torch.no_grad():
        expected = [greedy_without_cache(pair, source, 12) for source in SOURCES]
    assert write(pair, SOURCES, max_new_tokens=12, start_id=START) == expected


def test_a_source_and_a_target_fill_the_context_and_no_more(pair, write):
    rows = write(pair, [[1] * 48, [2]], max_new_tokens=60, start_id=START)
    assert [len(row) for row in rows] == [48, 48]


def log_probability(model, source, target):
    logits = model(torch.tensor([source]), torch.tensor([[START, *target[:-1]]]))[0]
    return float(F.log_softmax(logits, -1).gather(1, torch.tensor(target)[:, None]).sum())


def test_beams_find_likelier_targets_than_greed(pair, write):
    greedy = write(pair, SOURCES, max_new_tokens=8, start_id=START)
    beams = write(pair, SOURCES, max_new_tokens=8, start_id=START, num_beams=12)
    with torch.no_grad():
        found = [
            [log_probability(pair, source, target) for source, target in zip(SOURCES, rows, strict=True)]
            for rows in (greedy, beams)
        ]
    assert all(ours >= theirs - 1e-4 for theirs, ours in zip(*found, strict=True))


def test_as_many_beams_as_there_are_answers_find_the_best(decoder_config, make_model, write):
    model = make_model(decoder_config)
    (answer,) = write(model, [[1, 2, 3]], max_new_tokens=2, num_beams=97)
    with torch.no_grad():
        first = F.log_softmax(model(torch.tensor([[1, 2, 3]]))[0, -1], -1)  # [V]
        rows = torch.cat((torch.tensor([[1, 2, 3]]).expand(97, -1), torch.arange(97)[:, None]), dim=1)
        both = first[:, None] + F.log_softmax(model(rows)[:, -1], -1)  # [V, V]
    assert answer == [int(both.argmax()) // 97, int(both.argmax()) % 97]


def test_a_prompt_is_searched_alone_as_in_a_batch(pair, write):
    options = {"max_new_tokens": 10, "start_id": START, "num_beams": 3, "eos_ids": [7, 40, 60]}
    together = write(pair, SOURCES, **options)
    assert together == [write(pair, [source], **options)[0] for source in SOURCES]


def test_samples_of_a_target_follow_their_seed(pair, write):
    options = {"max_new_tokens": 10, "start_id": START, "temperature": 1.5, "top_k": 30}
    assert write(pair, SOURCES, **options) == write(pair, SOURCES, **options)
    assert write(pair, SOURCES, **options) != write(pair, SOURCES, seed=1, **options)
    assert write(pair, SOURCES, seed=2, **options)[0] == write(pair, SOURCES[:1], seed=2, **options)[0]


@pytest.mark.parametrize(
    ("sources", "start_id", "words"),
    [
        ([[1]], None, "start_id is None"),
        ([[1]], 97, "start_id is 97"),
        ([[1] * 49], 0, "49 tokens; this model reads at most 48"),
        ([[]], 0, "prompt 0 is empty"),
    ],
)
def test_what_a_target_needs_is_named(pair, write, sources, start_id, words):
    with pytest.raises(ValueError, match=words):
        write(pair, sources, start_id=start_id)


def test_an_encoder_writes_no_text(encoder, write):
    with pytest.raises(ValueError, match="writes no text; allowed: a decoder or an encoder-decoder"):
        write(encoder, [[1]])
