"""`plan --probe`: real steps of a training on a real Ray, known to every later plan; nothing else is left of them."""

import json
import shutil

import pytest

from tests.pipeline.verbs.processes import headrace_process


def base(said):
    return next(row for row in said["nodes"] if row["node"] == "base")


def test_only_trainings_that_are_ahead_can_be_probed(look):
    assert "there is no training to probe" in look("plan", "--probe").error()
    error = look("plan", "tokenizer", "base", "--probe", "stages.clean.rules.min_words=5").error()
    assert 'the vocabulary of "base" is not known yet' in error
    assert "headrace run tokenizer" in error
    error = look("plan", "tokenizer", "--probe", "stages.base.num_steps=9").error()
    assert "among tokenizer" in error


@pytest.mark.slow
def test_a_probed_training_has_its_time_and_memory_in_later_plans(tiny, tmp_path, headrace):
    shutil.copytree(tiny.url, tmp_path / "store")
    given = [f"recipe={tiny.recipe}", f"store={tmp_path}/store", "stages.base.num_steps=5000"]

    def plan(*more):
        return base(headrace("plan", "base", "--json", *given, *more).json)

    def artifacts():
        return sorted(tmp_path.glob("store/*/*/*/manifest.json"))

    assert "seconds per step" not in plan()["estimate"]
    before = artifacts()
    done = headrace_process(tmp_path, "plan", "base", "--probe", "--json", *given)
    assert done.returncode == 0, done.stderr
    assert "base: a few steps with random tokens" in done.stderr
    probed = base(json.loads(done.stdout))
    pace = probed["estimate"]["seconds per step"]
    assert probed["seconds"] == pytest.approx(5000 * pace)
    assert ["as measured" in probed["remarks"][0], probed["remarks"][1][:12]] == [True, "measured on "]
    assert artifacts() == before
    assert not list(tmp_path.glob("store/work/probe/*"))
    assert plan("stages.base.learning_rate=0.5")["seconds"] == pytest.approx(5000 * pace)
    deeper = plan("stages.base.model.num_layers=4")
    assert deeper["estimate"]["seconds per step"] > pace
    assert deeper["remarks"][1].startswith("a guess: ")
