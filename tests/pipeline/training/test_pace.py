"""What steps took is found again in the same conditions, and stands for other trainings as a guess that says so."""

from dataclasses import replace

import pytest

from model.config import LlamaConfig
from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Recomputation, Resources
from pipeline.training.config import Precision, TrainingConfig
from pipeline.training.fit import fitted
from pipeline.training.memory import GIB
from pipeline.training.pace import (
    Pace,
    Paces,
    conditions,
    expected_pace,
    in_words,
    measured_bytes,
    step_flops,
)

MODEL = LlamaConfig(
    vocab_size=1000, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=4
)
TRAINING = TrainingConfig(seq_len=64, global_batch_tokens=64 * 16, num_steps=100)
RANKS = Resources(num_workers=2, cpus_per_worker=1, num_gpus=0)


@pytest.fixture
def paces(tmp_path):
    return Paces(open_folder(str(tmp_path)))


def pace(device="a CPU", seconds=2.0, held=GIB):
    return Pace(device, seconds, held, step_flops(MODEL, TRAINING) / seconds / 2, 0.25, 2)


def given(model=MODEL, training=TRAINING, resources=RANKS):
    return conditions(model, training, resources)


def test_a_measurement_is_found_again_on_its_device(paces):
    paces.remember(given(), pace())
    assert paces.recall(given(), device="a CPU") == pace()
    assert paces.recall(given(), device=None) == pace(), "where the device is not known, any"
    assert paces.recall(given(), device="another") is None


@pytest.mark.parametrize(
    "other",
    [
        given(model=replace(MODEL, num_layers=3)),
        given(training=replace(TRAINING, seq_len=32)),
        given(training=replace(TRAINING, precision=Precision.fp32)),
        given(resources=replace(RANKS, zero_stage=3)),
        given(resources=replace(RANKS, micro_batch_size=1)),
        given(resources=replace(RANKS, num_workers=1)),
        given(resources=replace(RANKS, cpus_per_worker=2)),
        given(resources=replace(RANKS, activation_checkpointing=Recomputation.selective)),
    ],
)
def test_what_a_step_depends_on_is_in_the_conditions(paces, other):
    paces.remember(given(), pace())
    assert paces.recall(other, device="a CPU") is None


@pytest.mark.parametrize(
    "same",
    [
        given(training=replace(TRAINING, num_steps=7, learning_rate=0.5, seed=3)),
        given(resources=replace(RANKS, log_every_steps=5, max_failures=1, zero_stage=1, micro_batch_size=8)),
    ],
)
def test_what_a_step_does_not_depend_on_is_not(paces, same):
    paces.remember(given(), pace())
    assert paces.recall(same, device="a CPU") == pace()


def test_another_training_is_a_guess_by_its_flops(paces):
    paces.remember(given(), pace())
    larger = replace(MODEL, num_layers=8)
    found = expected_pace(paces, given(model=larger), device="a CPU", flops=step_flops(larger, TRAINING))
    assert found.seconds_per_step == pytest.approx(
        2.0 * step_flops(larger, TRAINING) / step_flops(MODEL, TRAINING)
    )
    assert found.words.startswith("a guess: ")
    exact = expected_pace(paces, given(), device="a CPU", flops=step_flops(MODEL, TRAINING))
    assert exact.seconds_per_step == 2.0
    assert exact.words == "measured on a CPU: 2 s a step, 1 GiB per rank"


def test_more_ranks_are_guessed_to_be_as_fast_each(paces):
    paces.remember(given(), pace())
    four = given(resources=replace(RANKS, num_workers=4))
    found = expected_pace(paces, four, device="a CPU", flops=step_flops(MODEL, TRAINING))
    assert found.seconds_per_step == pytest.approx(1.0)


def test_other_precisions_threads_and_devices_are_no_basis(paces):
    paces.remember(given(), pace())
    for other, device in [
        (given(training=replace(TRAINING, precision=Precision.fp32)), "a CPU"),
        (given(resources=replace(RANKS, cpus_per_worker=4)), "a CPU"),
        (given(resources=replace(RANKS, num_gpus=1)), None),
        (given(model=replace(MODEL, num_layers=8)), "another CPU"),
    ]:
        assert expected_pace(paces, other, device=device, flops=1e9) is None


def test_a_damaged_record_is_none(paces):
    paces.remember(given(), pace())
    for entry in paces.folder.files():
        paces.folder.write_bytes(entry.name, b'{"device": 3')
    assert paces.recall(given(), device="a CPU") is None


def test_what_was_measured_corrects_what_fits(paces):
    """A rank that has held more than predicted is given other settings; one that has held less is not."""

    def held(resources):
        return measured_bytes(paces, MODEL, TRAINING, resources, device=None)

    def fit():
        return fitted(MODEL, TRAINING, RANKS, device_bytes=GIB, measured=held)

    first = fit()
    assert first.reason == ""
    paces.remember(given(resources=first.resources), pace(held=2 * GIB))
    second = fit()
    assert second.resources != first.resources
    assert "would take" in second.reason
    paces.remember(given(resources=first.resources), pace(held=GIB // 2))
    third = fit()
    assert third.resources == first.resources
    assert third.measured == GIB // 2 + first.memory.copies
    assert "as measured" in third.words()


@pytest.mark.parametrize(("seconds", "wanted"), [(41, "41 s"), (80, "1 min 20 s"), (7980, "2 h 13 min")])
def test_durations_in_words(seconds, wanted):
    assert in_words(seconds) == wanted
