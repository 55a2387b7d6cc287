"""A trace of the steps asked for, as a browser opens it."""

import gzip
import json
from pathlib import Path

import pytest

from pipeline.training.trace import TRACE_FILE

STEP_PARTS = ("forward", "backward", "optimizer")


def events_in(output: Path) -> list[dict]:
    with gzip.open(output / TRACE_FILE, "rt") as file:
        return json.load(file)["traceEvents"]


def count(events: list[dict], part: str) -> int:
    return sum(
        event["name"] == part and event["ph"] == "X" and event["cat"] == "user_annotation" for event in events
    )


@pytest.mark.parametrize(("steps", "num_traced"), [([2], 1), ([4, 6], 3), ([11, 40], 2)])
def test_a_trace_has_the_kernels_and_parts_of_its_steps(here, make_job, steps, num_traced):
    here.run(make_job({"validation_tokens": None}), "run", profile_steps=steps, micro_batch_size=8)
    events = events_in(here.root / "run/output")
    assert [count(events, part) for part in STEP_PARTS] == [num_traced] * 3
    assert any(event["name"] == "aten::mm" and event["dur"] > 0 for event in events)
    assert TRACE_FILE in here.notes()


def test_nothing_is_traced_unless_asked(here, make_job):
    here.run(make_job(num_steps=2), "run")
    assert not (here.root / "run/output" / TRACE_FILE).exists()
