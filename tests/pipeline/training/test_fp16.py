"""fp16 with its loss scale. CPUs compute it slowly, most without DeepSpeed's leave: here the leave is given."""

import shutil

import pytest

from pipeline.errors import ConfigError, StageFailedError
from pipeline.training import loss_scale, throughput
from pipeline.training.config import Precision
from pipeline.training.length import Schedule

HALF = {"precision": Precision.fp16}


@pytest.fixture
def allowed(here, monkeypatch):
    """A device that says it can."""
    from pipeline.training.runtime import import_deepspeed

    accelerator = import_deepspeed().accelerator.get_accelerator()
    monkeypatch.setattr(accelerator, "is_fp16_supported", lambda: True)
    monkeypatch.setitem(
        throughput.ROOF_SIZE, "cpu", 64
    )  # the roof of a CPU in fp16 takes it a quarter of a minute
    return here


@pytest.fixture
def overflowing(allowed, monkeypatch):
    """A scale so large that the first steps overflow."""
    monkeypatch.setattr(loss_scale, "INITIAL_POWER", 26)
    return allowed


def test_a_device_without_fp16_is_told_what_it_has(here, make_job, monkeypatch):
    from pipeline.training.runtime import import_deepspeed

    accelerator = import_deepspeed().accelerator.get_accelerator()
    monkeypatch.setattr(accelerator, "is_fp16_supported", lambda: False)
    with pytest.raises(ConfigError, match="does not compute in fp16") as raised:
        here.run(make_job(**HALF), "run")
    assert "bf16" in raised.value.allowed


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_it_learns_as_fp32_does(allowed, make_job, stage):
    allowed.run(make_job(), "full")
    result = allowed.run(make_job(**HALF), "half", zero_stage=stage, micro_batch_size=4)
    assert allowed.losses("half") == pytest.approx(allowed.losses("full"), abs=2e-2)
    assert result.metrics["train/loss_scale"] == 2.0**16
    assert result.metrics["train/skipped_steps"] == 0


@pytest.mark.parametrize("stage", [1, 3])
def test_an_overflow_skips_the_update_halves_the_scale_and_is_told(overflowing, make_job, stage):
    job = make_job(**HALF, num_steps=16, schedule=Schedule.constant)
    result = overflowing.run(job, "run", zero_stage=stage)
    skipped = result.metrics["train/skipped_steps"]
    assert 1 < skipped < 16
    assert result.metrics["train/loss_scale"] == 2.0 ** (26 - skipped)
    assert overflowing.notes().count("the update is skipped") == skipped
    assert result.counters["steps"] == 16
    assert overflowing.losses("run")[-1] < overflowing.losses("run")[0] - 0.05


@pytest.mark.parametrize("every", [3, 10])
def test_a_resumed_run_has_the_bytes_of_an_uninterrupted_one(overflowing, make_job, every):
    """From among the skipped steps, and from behind them."""
    job = make_job(**HALF, ema_decay=0.5)
    overflowing.run(job, "run", checkpoint_every_steps=every)
    weights, losses = overflowing.weights("run"), overflowing.losses("run")
    shutil.rmtree(overflowing.root / "run/scratch/step-00000012")
    overflowing.run(job, "run", checkpoint_every_steps=every)
    assert overflowing.losses("run") == losses
    assert overflowing.weights("run") == weights


def test_an_overflow_at_the_least_scale_stops_the_run(overflowing, make_job, monkeypatch):
    monkeypatch.setattr(loss_scale, "LEAST_SCALE", 2.0**25)
    with pytest.raises(StageFailedError, match="gradient norm is inf at step 2: stopped before the update"):
        overflowing.run(make_job(**HALF), "run")
