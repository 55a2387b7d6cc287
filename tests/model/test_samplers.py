"""The tokens that a sample may be, the penalty and the stops: as transformers has them, for any logits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model.generation.sampling import Repetition, Sampler, num_kept
from model.generation.settings import Generation
from model.generation.stopping import find_stop, num_held_back

NO_IDS = torch.empty(0, 0, dtype=torch.long)


@st.composite
def logits(draw):
    """[1, V] of values that all differ, so that no two tokens are as likely."""
    values = draw(st.lists(st.integers(-400, 400), min_size=2, max_size=40, unique=True))
    return torch.tensor([values], dtype=torch.float64) / 40


def probabilities(scores, settings):
    return torch.softmax(scores / settings.temperature, dim=-1).sort(dim=-1, descending=True).values


@given(
    logits(),
    st.floats(0.2, 3),
    st.integers(0, 50),
    st.floats(0.05, 1),
    st.floats(0, 1),
)
def test_those_that_may_be_sampled_are_those_of_transformers(scores, temperature, top_k, top_p, min_p):
    settings = Generation(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    warpers = [
        TemperatureLogitsWarper(temperature),
        *([TopKLogitsWarper(top_k)] if top_k else []),
        *([TopPLogitsWarper(top_p)] if top_p < 1 else []),
        MinPLogitsWarper(min_p),
    ]
    left = LogitsProcessorList(warpers)(NO_IDS, scores)
    assert int(num_kept(probabilities(scores, settings), settings)) == int(left.isfinite().sum())


@given(logits(), st.integers(1, 50))
def test_top_k_keeps_k(scores, top_k):
    settings = Generation(temperature=1.0, top_k=top_k)
    assert int(num_kept(probabilities(scores, settings), settings)) == min(top_k, scores.shape[1])


@given(logits(), st.floats(0.01, 1), st.integers(0, 2**40))
def test_a_sample_is_as_likely_as_min_p_asks(scores, min_p, seed):
    chosen = Sampler(Generation(temperature=1.0, min_p=min_p, seed=seed), num_rows=1).choose(scores.float())
    probs = torch.softmax(scores, dim=-1)[0]
    assert probs[chosen] >= min_p * probs.max() * (1 - 1e-6)


@given(logits(), st.floats(0.3, 3), st.data())
def test_the_penalty_is_that_of_transformers(scores, penalty, data):
    had = data.draw(st.lists(st.integers(0, scores.shape[1] - 1), min_size=1, max_size=12))
    ours = Repetition(penalty, [had[:1]], vocab_size=scores.shape[1])
    for token in had[1:]:
        ours.add(torch.tensor([token]))
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([had]), scores.clone())
    torch.testing.assert_close(ours(scores), theirs)


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-320}])
def test_the_narrowest_sample_is_the_likeliest_token(settings):
    scores = torch.randn(50, 300)
    sampler = Sampler(Generation(**{"temperature": 1.0} | settings), num_rows=50)
    assert torch.equal(sampler.choose(scores), scores.argmax(-1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"min_p": float("nan")}, "min_p is nan"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"num_beams": 10**9}, "num_beams is 1000000000"),
        ({"length_penalty": 1e300}, "length_penalty is 1e+300"),
        ({"length_penalty": float("inf")}, "length_penalty is inf"),
        ({"stop": ("a", "")}, "stop is"),
        ({"seed": -1}, "seed is -1"),
        ({"num_beams": 2, "temperature": 1.0}, "beams are not sampled"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    (problem,) = Generation(**settings).problems()
    assert words in problem.what


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_what_is_held_back_may_begin_a_stop_and_the_rest_may_not(text, stops):
    begins = {stop[:length] for stop in stops for length in range(len(stop))}
    assert num_held_back(text, stops) == max((len(each) for each in begins if text.endswith(each)), default=0)


def test_the_first_stop_in_a_text_counts():
    assert find_stop("one two three", ["three", "two"]) == 4
    assert find_stop("one two three", ["four"]) is None
