"""The loss of each source of a mixture: of its own targets, whatever the ranks and micro batches."""

import json
from pathlib import Path

import pytest

from data.mixture import MixtureRules

SOURCES = ("train", "other")
PER_STEP, NUM_STEPS = 8, 12


@pytest.fixture
def mixed(make_job, corpus):
    """A job on three sequences of one source to one of another; all have as many targets."""
    rules = MixtureRules(weights={"train": 3, "other": 1}, max_epochs={"other": 2})
    sources = {"train": corpus["train"], "other": corpus["validation"]}
    return make_job({"train_tokens": sources, "mixture": rules, "validation_tokens": None})


def by_source(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "output/logs/metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line)["metrics"] for line in lines]
    return [
        {name: value for name, value in line.items() if name.startswith("train/loss")}
        for line in metrics
        if "train/loss" in line
    ]


def sequences_of_train(losses: dict[str, float]) -> float:
    """How many of a step's sequences are from `train`, as the mean of all and the means of the sources tell."""
    means = [losses.get(f"train/loss/{source}") for source in SOURCES]
    if None in means:
        assert losses["train/loss"] == pytest.approx(sum(mean for mean in means if mean), abs=1e-6)
        return PER_STEP * (means[1] is None)
    train, other = means
    return PER_STEP * (losses["train/loss"] - other) / (train - other)


def test_the_losses_of_sources_weigh_as_their_sequences(here, mixed):
    here.run(mixed, "run", micro_batch_size=8)
    found = [sequences_of_train(losses) for losses in by_source(here.root / "run")]
    assert len(found) == NUM_STEPS
    assert found == pytest.approx([round(each) for each in found], abs=0.02)
    assert sum(round(each) for each in found) == PER_STEP * NUM_STEPS * 3 / 4


def test_micro_batches_change_none_of_them(here, mixed):
    here.run(mixed, "whole", micro_batch_size=8)
    here.run(mixed, "parts", micro_batch_size=2)
    check_equal(by_source(here.root / "whole"), by_source(here.root / "parts"))


def test_a_single_source_has_no_loss_of_its_own(here, make_job):
    here.run(make_job(num_steps=2), "run")
    assert [list(losses) for losses in by_source(here.root / "run")] == [["train/loss"]] * 2


@pytest.mark.slow
def test_ranks_change_none_of_them(runs, mixed):
    stages = (0, 3)
    for world_size in (1, 2):
        orders = [runs.order(mixed, f"{world_size}-{stage}", zero_stage=stage) for stage in stages]
        runs.run(orders, world_size=world_size)
    whole = by_source(runs.root / "1-0")
    for stage in stages:
        check_equal(whole, by_source(runs.root / f"2-{stage}"))


def check_equal(expected: list[dict], found: list[dict]) -> None:
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
