"""The parts of a step add up to all its time, whoever holds the clock."""

import json

import pytest

from pipeline.training.timing import Part, Timing

PARTS = {f"time/{part.value}" for part in Part}


class Clock:
    """Goes on by a second at each look; moments after `passed` are still to come."""

    def __init__(self) -> None:
        self.now, self.passed = 0.0, float("inf")

    def mark(self) -> float:
        self.now += 1
        return self.now

    def elapsed(self, begin: float, end: float) -> float | None:
        return end - begin if end <= self.passed else None


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_inner_part_is_taken_out_of_the_outer(clock):
    timing = Timing(clock.mark, clock.elapsed)
    with timing.part(Part.backward), timing.part(Part.exchange):
        pass
    assert timing.take(1) == {
        "time/backward": 2.0,
        "time/exchange": 1.0,
        "time/other": 2.0,
        "time/step": 5.0,
    }


def test_what_a_checkpoint_exchanges_is_the_checkpoint(clock):
    timing = Timing(clock.mark, clock.elapsed)
    with timing.part(Part.checkpoint), timing.part(Part.exchange):
        pass
    assert timing.take(0) == {"time/checkpoint": 3.0}


def test_what_the_device_has_not_come_to_counts_later_and_is_not_lost(clock):
    timing = Timing(clock.mark, clock.elapsed)
    clock.passed = 3.0
    with timing.part(Part.forward):
        pass
    with timing.part(Part.optimizer):
        pass
    assert timing.take(1) == {"time/forward": 1.0, "time/other": 1.0, "time/step": 2.0}
    clock.passed = float("inf")
    assert timing.take(1) == {"time/optimizer": 1.0, "time/other": 3.0, "time/step": 4.0}


def test_a_restart_forgets_what_was_before(clock):
    timing = Timing(clock.mark, clock.elapsed)
    with timing.part(Part.data):
        pass
    timing.restart()
    assert timing.take(1) == {"time/other": 1.0, "time/step": 1.0}


def metrics_of(folder) -> list[dict]:
    lines = (folder / "output/logs/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["metrics"] for line in lines]


def check_sums(lines: list[dict]) -> None:
    """In each record of steps the parts there are add up to the whole."""
    timed = [line for line in lines if "time/step" in line]
    assert timed
    for line in timed:
        parts = {name: value for name, value in line.items() if name in PARTS}
        assert sum(parts.values()) == pytest.approx(line["time/step"])
        assert {"time/data", "time/forward", "time/backward", "time/optimizer"} <= set(parts)
        assert all(value > 0 for value in parts.values())


def test_every_record_says_where_its_time_went(here, make_job):
    here.run(make_job(eval_every_steps=6), "run", checkpoint_every_steps=8, log_every_steps=3)
    lines = metrics_of(here.root / "run")
    check_sums(lines)
    steps = [line for line in lines if "train/loss" in line]
    assert ["time/evaluation" in line for line in steps] == [False, False, True, False]
    assert ["time/checkpoint" in line for line in steps] == [False, False, True, False]
    assert {"time/evaluation", "time/checkpoint"} <= set(lines[-1])
    assert "train/loss" not in lines[-1]


@pytest.mark.slow
def test_on_several_ranks_the_exchange_is_apart(runs, make_job):
    stages = (0, 1, 2, 3)
    job = make_job(num_steps=3)
    runs.run([runs.order(job, f"timed-{stage}", zero_stage=stage) for stage in stages], world_size=2)
    for stage in stages:
        lines = metrics_of(runs.root / f"timed-{stage}")
        check_sums(lines)
        assert all("time/exchange" in line for line in lines if "train/loss" in line)
