"""Real runs on a real Ray, as a user starts them. Each takes some seconds, so each looks at much."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from pipeline.tracking.config import TrackingConfig, tracking_uri
from pipeline.tracking.server import open_client
from tests.pipeline.verbs.processes import COMMAND, ENVIRONMENT, headrace_process


def test_a_finished_recipe_ends_at_once_and_builds_nothing(look):
    facts = look("run", "--json").json
    assert (facts["built"], facts["reused"], facts["failed"]) == (0, 12, 0)
    assert "12 reused" in look("run").out


def test_a_store_that_cannot_be_written_is_refused_before_ray_starts(headrace, tiny, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    error = headrace("run", f"recipe={tiny.recipe}", f"store={tmp_path}/file/store").error()
    assert "cannot be written" in error


@pytest.mark.slow
def test_a_run_from_nothing_to_tokens_and_again(make_tiny, headrace, tmp_path):
    tiny = make_tiny()
    first = headrace_process(tmp_path, "run", "tokens", "--json", *tiny.overrides)
    assert first.returncode == 0, first.stderr
    facts = json.loads(first.stdout)
    assert (facts["status"], facts["built"], facts["failed"]) == ("FINISHED", 6, 0)
    assert Path(facts["log"]).exists()
    assert "Traceback" not in first.stderr

    run = headrace("show", facts["run_id"], "--json", *tiny.overrides).json
    assert run["status"] == "FINISHED"
    assert {node: each["key"] for node, each in run["nodes"].items()} == {
        node: each["key"] for node, each in facts["nodes"].items()
    }
    assert headrace("diff", facts["run_id"], facts["run_id"], *tiny.overrides).out.strip() == "no difference"
    assert headrace("gc", "--dry-run", "--json", *tiny.overrides).json["garbage"] == []

    client = open_client(tracking_uri(TrackingConfig(), store_path=Path(tiny.url)))
    (experiment,) = [each for each in client.search_experiments() if each.name == "headrace"]
    runs = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
    assert {each.info.status for each in runs.values()} == {"FINISHED"}
    child = headrace("show", runs["clean"].info.run_id, "--json", *tiny.overrides).json
    assert child["key"] == facts["nodes"]["clean"]["key"]
    (parent,) = [each for name, each in runs.items() if facts["run_id"] in name]
    assert headrace("show", parent.info.run_id, "--json", *tiny.overrides).json["run_id"] == facts["run_id"]

    again = headrace_process(tmp_path, "run", "tokens", "--json", *tiny.overrides)
    assert json.loads(again.stdout)["built"] == 0
    serial = {node: each.manifest.digest for node, each in tiny.build(["tokens"]).items()}
    fresh = make_tiny().build(["tokens"])
    assert serial == {node: each.manifest.digest for node, each in fresh.items()}, "Ray and one process agree"


@pytest.mark.slow
def test_an_interrupted_run_ends_with_130_and_is_on_record(make_tiny, headrace, tmp_path):
    tiny = make_tiny()
    built = tiny.build(["tokens"])
    command = [*COMMAND, "run", "base", "stages.base.num_steps=100000", *tiny.overrides]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    ) as process:
        for line in process.stdout:
            if "steps" in line:
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    (record,) = (Path(tiny.url) / "runs").glob("*.json")
    facts = headrace("show", record.stem, "--json", *tiny.overrides).json
    assert facts["status"] == "KILLED"
    assert {node: each["key"] for node, each in facts["nodes"].items()} == {
        node: artifact.manifest.key for node, artifact in built.items()
    }


@pytest.mark.slow
def test_damaged_input_ends_with_3_and_names_the_file(make_tiny, tmp_path):
    tiny = make_tiny()
    (tiny.recipe.parent / "corpus/bad.jsonl").write_bytes(b'{"text": "fine"}\n{"text": \n')
    done = headrace_process(tmp_path, "run", "clean", *tiny.overrides)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "bad.jsonl" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
