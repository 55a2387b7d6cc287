"""What memory was held at the most, also when it has been given back."""

import json

import torch

from pipeline.training.high_water import HighWater

MIB = 2**20


def gib_held(high_water: HighWater) -> float:
    return high_water.take(1)["train/memory_gib"]


def test_what_was_given_back_still_counts():
    high_water = HighWater(torch.device("cpu"))
    before = gib_held(high_water)
    held = torch.ones(64 * MIB, dtype=torch.uint8)
    del held
    assert 60 / 1024 < gib_held(high_water) - before < 80 / 1024


def test_what_was_held_before_does_not_count():
    held = torch.ones(256 * MIB, dtype=torch.uint8)
    del held
    assert gib_held(HighWater(torch.device("cpu"))) < 128 / 1024


def test_every_record_has_it_and_it_never_falls(here, make_job):
    here.run(make_job(), "run")
    lines = (here.root / "run/output/logs/metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line)["metrics"] for line in lines]
    found = [line["train/memory_gib"] for line in metrics if "train/loss" in line]
    assert len(found) == 12
    assert found == sorted(found)
    assert 0 <= found[-1] < 2, "what a process has freed before is used again first"
