"""The learning rate at each step: its ends, its shape, and that it never jumps."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.training.config import TrainingConfig
from pipeline.training.length import DecayShape, Schedule
from pipeline.training.schedule import learning_rate_at

FALLING = (Schedule.cosine, Schedule.linear, Schedule.wsd)
"""Schedules that end at the least rate."""


def rates_of(config):
    length = config.length()
    return [learning_rate_at(step, config, length) for step in range(length.num_steps)]


@st.composite
def configs(draw, schedules=tuple(Schedule)):
    num_steps = draw(st.integers(2, 300))
    config = TrainingConfig(
        num_steps=num_steps,
        warmup_steps=draw(st.integers(0, num_steps)),
        schedule=draw(st.sampled_from(schedules)),
        learning_rate=draw(st.floats(1e-6, 10)),
        min_learning_rate_fraction=draw(st.floats(0, 1)),
        decay_fraction=draw(st.floats(0, 1)),
        decay_shape=draw(st.sampled_from(DecayShape)),
    )
    assume(not config.problems())
    return config


@given(configs())
def test_the_rate_rises_evenly_to_the_peak_and_then_never_rises_again(config):
    rates, warmup, decay = rates_of(config), config.warmup_steps, config.length().decay_steps
    assert rates[:warmup] == pytest.approx(
        [config.learning_rate * (step + 1) / warmup for step in range(warmup)]
    )
    assert max(rates) == pytest.approx(config.learning_rate) or decay == len(rates)
    falling = rates[max(0, warmup - 1) :]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(falling))
    assert all(rate > 0 for rate in rates[:warmup])


@given(configs(FALLING))
def test_a_falling_schedule_ends_at_the_least_rate(config):
    assume(config.num_steps - config.warmup_steps > 1)
    assume(config.length().decay_steps or config.schedule is not Schedule.wsd)
    least = config.learning_rate * config.min_learning_rate_fraction
    assert rates_of(config)[-1] == pytest.approx(least)


@given(configs())
def test_no_rate_after_the_warm_up_is_below_the_least(config):
    least = config.learning_rate * config.min_learning_rate_fraction
    assert min(rates_of(config)[config.warmup_steps :], default=least) >= least * (1 - 1e-12)


@pytest.mark.parametrize("schedule", list(Schedule))
@pytest.mark.parametrize("shape", list(DecayShape))
def test_no_schedule_jumps(schedule, shape):
    """With ten times the steps the largest change of a step becomes smaller: it is the sampling of a curve."""

    def largest_change(num_steps):
        config = TrainingConfig(
            num_steps=num_steps, warmup_steps=num_steps // 10, schedule=schedule, decay_shape=shape
        )
        return max(abs(b - a) for a, b in itertools.pairwise(rates_of(config))) / config.learning_rate

    assert largest_change(10_000) < largest_change(1_000) / 3 < largest_change(100) / 9


def test_halfway_down_a_cosine_is_the_mean_of_its_ends():
    config = TrainingConfig(num_steps=101, warmup_steps=0, learning_rate=1.0, min_learning_rate_fraction=0.2)
    assert rates_of(config)[50] == pytest.approx(0.6)


def test_a_run_of_warm_up_alone_has_a_rate_at_every_step():
    config = TrainingConfig(num_steps=3, warmup_steps=3, learning_rate=3.0)
    assert rates_of(config) == pytest.approx([1.0, 2.0, 3.0])


@given(warmup=st.integers(1, 5000), hidden_size=st.integers(64, 4096))
def test_inverse_sqrt_is_the_formula_of_the_paper(warmup, hidden_size):
    """Vaswani et al. 2017, equation 3: d^-0.5 * min(t^-0.5, t * w^-1.5), whose peak is (d * w)^-0.5."""
    peak = (hidden_size * warmup) ** -0.5
    config = TrainingConfig(
        num_steps=10**6,
        warmup_steps=warmup,
        learning_rate=peak,
        schedule=Schedule.inverse_sqrt,
        min_learning_rate_fraction=0.0,
    )
    for t in (1, warmup, warmup + 1, 4 * warmup, 10**6):
        paper = hidden_size**-0.5 * min(t**-0.5, t * warmup**-1.5)
        assert learning_rate_at(t - 1, config, config.length()) == pytest.approx(paper)


def test_inverse_sqrt_does_not_know_how_long_the_run_is():
    short, long = (
        TrainingConfig(num_steps=steps, warmup_steps=10, schedule=Schedule.inverse_sqrt)
        for steps in (100, 10_000)
    )
    assert rates_of(short) == rates_of(long)[:100]
    assert rates_of(long)[-1] == long.learning_rate * long.min_learning_rate_fraction


@pytest.mark.parametrize("shape", list(DecayShape))
def test_wsd_stays_at_its_peak_and_falls_over_the_last_steps(shape):
    config = TrainingConfig(
        num_steps=100,
        warmup_steps=10,
        learning_rate=1.0,
        schedule=Schedule.wsd,
        decay_fraction=0.4,
        decay_shape=shape,
        min_learning_rate_fraction=0.0,
    )
    rates = rates_of(config)
    assert rates[10:60] == [1.0] * 50
    done = [(step - 59) / 40 for step in range(60, 100)]
    wanted = [1 - (math.sqrt(part) if shape is DecayShape.one_minus_sqrt else part) for part in done]
    assert rates[60:] == pytest.approx(wanted)


def test_wsd_runs_of_any_length_share_their_beginning():
    short, long = (TrainingConfig(num_steps=steps, schedule=Schedule.wsd) for steps in (500, 5000))
    assert rates_of(short)[:400] == rates_of(long)[:400]
