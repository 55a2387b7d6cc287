"""Masks, left-out spans and prefixes: what is drawn, how often, and that (seed, place) alone decide."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batches import IGNORED
from data.corruption import SpanCorruption, TokenMasking, corrupt_spans, draw_prefixes, mask_tokens, uniform

VOCAB, MASK = 1000, 999
SENTINELS = np.arange(2000, 1000, -1)


def masked(tokens, *, places=None, seed=0, rules=None, **kwargs):
    places = np.arange(len(tokens)) if places is None else places
    kwargs = {"may_mask": np.ones(tokens.shape, dtype=bool)} | kwargs
    rules = rules or TokenMasking()
    return mask_tokens(
        tokens, places=places, seed=seed, rules=rules, mask_id=MASK, vocab_size=VOCAB, **kwargs
    )


def corrupted(tokens, *, places=None, seed=0, rules=None):
    places = np.arange(len(tokens)) if places is None else places
    rules = rules or SpanCorruption()
    return corrupt_spans(
        tokens, places=places, seed=seed, rules=rules, sentinels=SENTINELS, eos_id=1, start_id=0
    )


def rows(num_rows, seq_len):
    return np.random.default_rng(0).integers(2, 900, (num_rows, seq_len))


def test_fifteen_of_a_hundred_are_predicted_and_of_these_eight_in_ten_masked():
    tokens = rows(2000, 100)
    found = masked(tokens)
    chosen = found["labels"] != IGNORED
    assert (chosen.sum(axis=1) == 15).all()
    assert np.array_equal(found["labels"][chosen], tokens[chosen])
    assert np.array_equal(found["input_ids"][~chosen], tokens[~chosen])
    was, now = tokens[chosen], found["input_ids"][chosen]
    assert np.mean(now == MASK) == pytest.approx(0.8, abs=0.01)
    assert np.mean(now == was) == pytest.approx(0.1, abs=0.01)
    others = now[(now != MASK) & (now != was)]
    assert np.abs(np.histogram(others, bins=10, range=(0, VOCAB))[0] / len(others) - 0.1).max() < 0.02
    places = np.nonzero(chosen)[1]
    assert np.abs(np.bincount(places) / len(places) - 0.01).max() < 0.003, "every position is as likely"


def test_only_what_may_be_masked_is():
    tokens = rows(50, 40)
    may_mask = np.random.default_rng(1).random((50, 40)) < 0.5
    may_mask[0] = False
    chosen = masked(tokens, may_mask=may_mask)["labels"] != IGNORED
    assert not (chosen & ~may_mask).any()
    assert not chosen[0].any()
    expected = np.rint(may_mask.sum(axis=1) * 0.15).clip(1)
    assert np.array_equal(chosen.sum(axis=1)[1:], expected[1:])


@given(st.integers(0, 2**40), st.integers(0, 100), st.integers(2, 60), st.data())
def test_the_split_of_the_work_changes_nothing(place, seed, seq_len, data):
    tokens, places = rows(6, seq_len), place + np.arange(6)
    kept = np.array(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6)))
    for make in (masked, corrupted):
        whole, part = (
            make(tokens, places=places, seed=seed),
            make(tokens[kept], places=places[kept], seed=seed),
        )
        for name, array in whole.items():
            assert np.array_equal(array[kept], part[name])
    assert np.array_equal(
        draw_prefixes(places, seq_len, seed=seed)[kept], draw_prefixes(places[kept], seq_len, seed=seed)
    )


def test_another_seed_or_another_time_is_another_choice():
    tokens = np.tile(rows(1, 200), (3, 1))
    for make, name in ((masked, "labels"), (corrupted, "input_ids")):
        first = make(tokens, places=np.array([5, 5, 6]))[name]
        assert np.array_equal(first[0], first[1])
        assert not np.array_equal(first[0], first[2])
        assert not np.array_equal(first[0], make(tokens, places=np.array([5, 5, 6]), seed=1)[name][0])


def test_words_are_masked_as_wholes():
    tokens = rows(200, 60)
    generator = np.random.default_rng(2)
    starts, may_mask = generator.random((200, 60)) < 0.4, generator.random((200, 60)) < 0.9
    found = masked(tokens, rules=TokenMasking(whole_words=True), starts_word=starts, may_mask=may_mask)
    chosen = found["labels"] != IGNORED
    assert not (chosen & ~may_mask).any()
    for row in range(200):
        word, seen = -1, {}
        for t in range(60):
            if starts[row, t] or t == 0 or not may_mask[row, t] or not may_mask[row, t - 1]:
                word = t
            if may_mask[row, t]:
                seen.setdefault(word, set()).add(bool(chosen[row, t]))
        assert all(len(each) == 1 for each in seen.values()), "a word is masked in part"
    wanted = np.rint(may_mask.sum(axis=1) * 0.15)
    assert (chosen.sum(axis=1) <= wanted).all()
    assert np.mean(chosen.sum(axis=1) / wanted) > 0.95


def undo(source, target, num_spans):
    """The sequence that a source and its target were made of."""
    spans, current = {}, None
    for token in target[:-1]:
        if token > 1000:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    assert list(spans) == SENTINELS[:num_spans].tolist(), "spans are told in order"
    return [each for token in source[:-1] for each in (spans[token] if token > 1000 else [token])]


@given(st.integers(2, 300), st.floats(0.01, 0.9), st.floats(1, 20), st.integers(0, 9))
def test_source_and_target_together_are_the_sequence(seq_len, fraction, mean_span, seed):
    rules, tokens = SpanCorruption(fraction=fraction, mean_span=mean_span), rows(3, seq_len)
    found = corrupted(tokens, rules=rules, seed=seed)
    num_noise, num_spans = rules.counts(seq_len)
    assert (found["input_ids"].shape[1], found["labels"].shape[1]) == rules.lengths(seq_len)
    assert num_spans <= num_noise < seq_len
    for row in range(3):
        source, target = found["input_ids"][row].tolist(), found["labels"][row].tolist()
        assert source[-1] == target[-1] == 1
        assert source[0] < 1000, "a sequence begins with what is kept"
        assert undo(source, target, num_spans) == tokens[row].tolist()
        assert found["decoder_input_ids"][row].tolist() == [0, *target[:-1]]


def test_the_papers_lengths():
    """T5's own: 568 tokens become a source of 512 and a target of 114."""
    assert SpanCorruption().lengths(568) == (512, 114)


def test_every_division_into_spans_is_as_likely():
    rules = SpanCorruption(
        fraction=0.5, mean_span=2.0
    )  # 4 of 8 left out, in 2 spans: 3 divisions of each half
    found = corrupted(rows(9000, 8), rules=rules)["labels"]
    lengths = Counter(int(np.flatnonzero(row == SENTINELS[1])[0]) - 1 for row in found)
    assert set(lengths) == {1, 2, 3}
    assert all(count == pytest.approx(3000, abs=200) for count in lengths.values())


def test_every_prefix_length_is_as_likely():
    lengths = Counter(draw_prefixes(np.arange(9000), 10, seed=3).sum(axis=1).tolist())
    assert set(lengths) == set(range(1, 10))
    assert all(count == pytest.approx(1000, abs=120) for count in lengths.values())


def test_uniform_numbers_are_uniform_and_streams_apart():
    first, other = (uniform(np.arange(500), 200, seed=0, stream=stream) for stream in (1, 2))
    assert first.min() >= 0
    assert first.max() < 1
    assert np.abs(np.histogram(first, bins=20, range=(0, 1))[0] / first.size - 0.05).max() < 0.003
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(first[:-1].ravel(), first[1:].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        (TokenMasking(fraction=0.0), "fraction"),
        (TokenMasking(mask_fraction=0.95), "mask_fraction"),
        (TokenMasking(random_fraction=-0.1), "mask_fraction"),
        (SpanCorruption(fraction=1.0), "fraction"),
        (SpanCorruption(mean_span=0.5), "mean_span"),
    ],
)
def test_a_wrong_rule_is_named(rules, field):
    (problem,) = rules.problems()
    assert problem.field == field
    assert problem.allowed
