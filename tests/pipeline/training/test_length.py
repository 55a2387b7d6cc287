"""The length of a run in steps, whatever unit it was said in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.training.config import TrainingConfig
from pipeline.training.length import Schedule

BATCH = {"global_batch_tokens": 8 * 64, "seq_len": 64}


def fields_wrong(**settings):
    return [problem.field for problem in TrainingConfig(**BATCH | settings).problems()]


@given(steps=st.integers(1, 10**6), short=st.integers(0, 511))
def test_tokens_are_whole_steps_of_at_least_so_many(steps, short):
    length = TrainingConfig(num_tokens=512 * steps - short, **BATCH).length()
    assert (length.num_steps, length.num_tokens) == (steps, 512 * steps)


@given(epochs=st.integers(1, 50), sequences=st.integers(1, 10**6))
def test_whole_epochs_draw_every_sequence_so_often_and_end_with_that_step(epochs, sequences):
    num_steps = TrainingConfig(num_epochs=float(epochs), **BATCH).length(num_sequences=sequences).num_steps
    assert (num_steps - 1) * 8 < epochs * sequences <= num_steps * 8


def test_a_tenth_of_an_epoch_is_a_tenth():
    """0.1 * 240 sequences are three steps of 8; in floats 0.1 * 3 * 80 is a little more."""
    config = TrainingConfig(num_epochs=0.1, warmup_steps=0, **BATCH)
    assert config.length(num_sequences=240).num_steps == 3
    assert config.length(num_sequences=241).num_steps == 4


def test_epochs_are_not_known_without_the_data():
    assert TrainingConfig(num_epochs=2.0, **BATCH).length() is None
    assert fields_wrong(num_epochs=2.0) == []


def test_no_unit_is_a_thousand_steps_with_a_hundred_of_warm_up():
    length = TrainingConfig(**BATCH).length()
    assert (length.num_steps, length.warmup_steps, length.decay_steps) == (1000, 100, 0)


@pytest.mark.parametrize("unit", [{"num_steps": 200}, {"num_tokens": 200 * 512}, {"num_epochs": 2.0}])
def test_equal_lengths_are_equal_whatever_the_unit(unit):
    parts = {"warmup_fraction": 0.1, "decay_fraction": 0.25, "schedule": Schedule.wsd}
    length = TrainingConfig(**BATCH | unit | parts).length_over(800)
    assert (length.num_steps, length.warmup_steps, length.decay_steps) == (200, 20, 50)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"num_steps": 10, "num_tokens": 512, "warmup_steps": 1}, "num_tokens"),
        ({"num_steps": 10, "num_epochs": 1.0, "warmup_steps": 1}, "num_epochs"),
        ({"num_tokens": 512, "num_epochs": 1.0, "warmup_steps": 1}, "num_epochs"),
        ({"warmup_steps": 1, "warmup_fraction": 0.1}, "warmup_fraction"),
        ({"decay_steps": 1, "decay_fraction": 0.1}, "decay_fraction"),
        ({"num_tokens": 0}, "num_tokens"),
        ({"num_epochs": 0.0}, "num_epochs"),
        ({"num_epochs": float("nan")}, "num_epochs"),
        ({"warmup_fraction": 1.5}, "warmup_fraction"),
        ({"decay_steps": -1}, "decay_steps"),
        ({"num_tokens": 512, "warmup_steps": 2}, "warmup_steps"),
    ],
)
def test_what_is_said_twice_or_out_of_range_is_named(settings, field):
    assert fields_wrong(**settings) == [field]


def test_a_decay_that_begins_before_the_warm_up_has_ended_is_refused():
    wrong = {"num_steps": 100, "warmup_steps": 60}
    assert fields_wrong(schedule=Schedule.wsd, decay_fraction=0.5, **wrong) == ["decay_fraction"]
    assert fields_wrong(schedule=Schedule.wsd, decay_steps=41, **wrong) == ["decay_steps"]
    assert fields_wrong(schedule=Schedule.wsd, decay_steps=40, **wrong) == []
    assert fields_wrong(schedule=Schedule.cosine, decay_fraction=0.5, **wrong) == []


def test_epochs_too_short_for_their_warm_up_are_refused_once_they_are_known():
    config = TrainingConfig(num_epochs=1.0, warmup_steps=20, **BATCH)
    with pytest.raises(ConfigError, match="a warm-up of 20 steps is longer than the 10 steps of the run"):
        config.length_over(80)
