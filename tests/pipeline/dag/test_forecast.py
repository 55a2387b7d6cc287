"""How long a plan will take: scaled from what the store has seen, and never guessed."""

import pytest

from pipeline.dag.forecast import WORK, Work, forecast
from pipeline.dag.graph import Graph
from pipeline.dag.plan import Planner
from pipeline.dag.resources import Resources
from tests.pipeline.dag.conftest import Upper


def foretell(toy, stages=None, recipe="toy"):
    planner = Planner(Graph(stages or toy.stages), toy.store, recipe=recipe)
    return forecast(planner, planner.plan(), lambda _: Resources())


@pytest.fixture
def seen(toy):
    """`read` and `loud` built; `loud` read 8 bytes in 2 seconds."""
    assert toy.build("loud")["loud"].manifest.facts[WORK] == {"unit": "input bytes", "amount": 8}
    toy.stages.pop("joined")
    return toy


def test_the_first_unit_of_an_estimate_that_says_how_long_is_the_work():
    assert Work.of({"files": 3, "bytes": 9}, 4) == Work("bytes", 9)
    assert Work.of({"tokens": 3, "flops": 9}, 4) == Work("flops", 9)
    assert Work.of({"files": 3}, 4) == Work("input bytes", 4)


def test_nothing_like_it_gives_no_forecast(toy):
    assert foretell(toy) == {"read": None, "loud": None, "joined": None}


def test_a_change_is_foretold_from_the_node_s_own_past(seen):
    seen.stages["loud"].suffix = "!"
    assert foretell(seen)["loud"] == pytest.approx(2.0)


def test_the_past_of_the_stage_serves_another_node_and_another_recipe(seen):
    louder = Upper(inputs=Upper.Inputs(lines="loud"), suffix="?")
    stages = {"read": seen.stages["read"], "loud": seen.stages["loud"], "louder": louder}
    assert foretell(seen, stages, recipe="other") == {"louder": pytest.approx(2.0)}


def test_time_grows_with_the_bytes_above_though_they_are_not_built_yet(seen):
    seen.file.write_text("one\ntwo\n" * 2)
    seen.build("read")
    seen.stages["louder"] = Upper(inputs=Upper.Inputs(lines="loud"), suffix="?")
    assert foretell(seen) == {"loud": pytest.approx(4.0), "louder": pytest.approx(4.0)}


def test_work_of_another_unit_says_nothing(seen, monkeypatch):
    seen.stages["loud"].suffix = "!"
    monkeypatch.setattr(Upper, "estimate", lambda *_: {"tokens": 5})
    assert foretell(seen) == {"loud": None}
