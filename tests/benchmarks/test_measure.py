"""The measuring module: the order of turns, the ratio, the limit, what it publishes."""

import importlib.util
import json
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks" / "measure.py"
spec = importlib.util.spec_from_file_location("measure", SOURCE)
measure = importlib.util.module_from_spec(spec)
spec.loader.exec_module(measure)


@pytest.fixture
def work(monkeypatch):
    """Contenders that take an exact time by a clock of their own."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def contender(seconds: float, units: float | None = None):
        def run() -> float | None:
            now[0] += seconds
            return units

        return run

    return contender


def test_contenders_run_in_turn_and_none_always_first():
    order = []
    contenders = {name: lambda name=name: order.append(name) for name in "ab"}
    measure.compare("turns", contenders, repeats=3, warmups=1)
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_the_ratio_says_how_many_times_faster_ours_is(work):
    result = measure.compare("sleep", {"ours": work(0.01), "peer": work(0.04)}, repeats=3)
    ours, peer = result.figures
    assert ours.ratio == 1
    assert peer.ratio == pytest.approx(4)


def test_the_ratio_is_by_unit_of_work(work):
    result = measure.compare("rate", {"ours": work(0.02, 20), "peer": work(0.02, 10)}, unit="rows", repeats=3)
    assert result.figures[1].ratio == pytest.approx(2)
    assert result.figures[0].median_rate == pytest.approx(1000)


@pytest.mark.parametrize(("limit", "holds"), [(5.0, True), (1e-6, False)])
def test_a_limit_in_seconds_is_the_most(work, limit, holds):
    assert measure.compare("limit", {"ours": work(0.001)}, most_seconds=limit).holds is holds


@pytest.mark.parametrize(("limit", "holds"), [(1.0, True), (1e9, False)])
def test_a_limit_in_units_is_the_least(work, limit, holds):
    assert measure.compare("limit", {"ours": work(0.001, 1)}, unit="rows", least_rate=limit).holds is holds


def test_a_limit_against_a_peer_is_the_least_ratio_and_is_printed(work, capsys):
    contenders = {"ours": work(0.001), "peer": work(0.003)}
    result = measure.compare("ratio", contenders, repeats=2, least_ratios={"peer": 2.5})
    missed = measure.compare("ratio", contenders, repeats=2, least_ratios={"peer": 3.5})
    assert (result.holds, missed.holds) == (True, False)
    assert not measure.publish([result, missed])
    assert "met" in (printed := capsys.readouterr().out)
    assert "MISSED" in printed


def test_the_last_line_is_json(work, capsys):
    result = measure.compare("sleep", {"ours": work(0.001), "peer": work(0.001)}, repeats=2, num_rows=3)
    assert measure.publish([result])
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    (published,) = document["results"]
    assert published["facts"] == {"num_rows": 3}
    assert [len(figure["seconds"]) for figure in published["figures"]] == [2, 2]
    assert document["machine"]["num_cpus"] >= 1
