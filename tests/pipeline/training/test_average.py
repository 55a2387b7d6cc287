"""The running mean of the weights: what it is the mean of, and that it is what is evaluated and what comes out."""

import dataclasses

import pytest
import torch

from model.weights import load_weights
from pipeline.training.config import Precision
from pipeline.training.length import Schedule

DECAY = 0.7
NUM_STEPS = 4
FLAT = {"schedule": Schedule.constant, "warmup_steps": 0}
"""A rate that does not know how long the run is: shorter runs are beginnings of longer ones."""


def weights_of(here, name):
    _, weights = load_weights(here.root / name / "output")
    return weights


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_it_is_the_weighted_mean_of_the_weights_after_every_update(here, make_job, precision):
    settings = FLAT | {"precision": precision}
    for step in range(1, NUM_STEPS + 1):
        here.run(make_job(num_steps=step, **settings), f"after-{step}")
    here.run(make_job(num_steps=NUM_STEPS, ema_decay=DECAY, **settings), "mean")
    shares = [DECAY ** (NUM_STEPS - step) for step in range(1, NUM_STEPS + 1)]
    after = [weights_of(here, f"after-{step}") for step in range(1, NUM_STEPS + 1)]
    for name, found in weights_of(here, "mean").items():
        wanted = sum(share * each[name] for share, each in zip(shares, after, strict=True)) / sum(shares)
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_training_goes_on_from_the_weights_and_not_from_their_mean(here, make_job):
    here.run(make_job(), "plain")
    here.run(make_job(ema_decay=DECAY, eval_every_steps=1), "looked-at-often")
    assert here.losses("looked-at-often") == here.losses("plain")


def test_what_is_evaluated_is_what_comes_out(here, make_job):
    job = make_job(ema_decay=0.9)
    told = here.run(job, "first").metrics["eval/loss"]
    _, output = here.folders("first")
    still = make_job({"initial_weights": output}, num_steps=1, learning_rate=1e-12, **FLAT)
    assert here.run(still, "again").metrics["eval/loss"] == pytest.approx(told, abs=1e-6)
    last = here.run(dataclasses.replace(job, training=make_job().training), "without").metrics["eval/loss"]
    assert last != pytest.approx(told, abs=1e-3)
