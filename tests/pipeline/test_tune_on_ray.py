"""A search on a real Ray: trials share what they can, asha ends one, the best is a recipe, nothing is done twice."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

RECIPE = """\
# @package _global_
defaults:
  - /stage/ingest@stages.corpus
  - /stage/split@stages.split
  - /stage/tokenizer@stages.tokenizer
  - /stage/tokenize@stages.tokens
  - /stage/pretrain@stages.base
  - /model/llama_tiny@stages.base.model
  - _self_
stages:
  corpus: {paths: [texts]}
  split: {inputs: {documents: corpus}, rules: {validation_fraction: 0.2, test_fraction: 0.1}}
  tokenizer: {inputs: {documents: split/train}, rules: {vocab_size: 300}}
  tokens: {inputs: {documents: split, tokenizer: tokenizer}}
  base:
    inputs: {tokens: tokens/train, validation: tokens/validation, tokenizer: tokenizer}
    model: {hidden_size: 32, intermediate_size: 64, num_layers: 1, num_heads: 2, num_kv_heads: 2, max_seq_len: 32}
    seq_len: 32
    global_batch_tokens: 128
    num_steps: 150
    warmup_steps: 1
    eval_every_steps: 4
    eval_max_sequences: 8
    precision: fp32
tune: {grace_steps: 4, reduction_factor: 2, num_trials: 2}
"""
SEARCH = 'tune.search={stages.base.learning_rate: "choice(1e-2, 1e-8)"}'
# Seed 11 proposes the good rate first, so that asha has something to compare the bad one with.
SEED = "tune.seed=11"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    (folder / "texts").mkdir()
    source = random.Random(0)
    words = "the water runs down to a wheel and turns it round while the river brings more".split()  # noqa: SIM905
    for number in range(40):
        text = " ".join(source.choice(words) for _ in range(200))
        (folder / f"texts/{number}.txt").write_text(text + ".\n")
    (folder / "conf/recipe").mkdir(parents=True)
    (folder / "conf/recipe/small.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def headrace(place) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", *argv]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="module")
def searched(headrace) -> dict[str, Any]:
    done = headrace("tune", "recipe=small", SEARCH, SEED, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def artifacts(place: Path, stage: str) -> list[str]:
    return sorted(each.parent.name for each in place.glob(f".headrace/artifacts/{stage}/*/manifest.json"))


def test_asha_ends_the_worse_trial_and_commits_nothing_of_it(searched, place):
    good, bad = searched["trials"]
    assert (good["status"], good["step"]) == ("finished", 150)
    assert bad["status"] == "stopped early"
    assert 4 <= bad["step"] < 150
    assert bad["value"] > good["value"]
    assert artifacts(place, "pretrain") == [good["key"]]
    assert searched["best"] == good["trial"]


def test_what_trials_share_is_built_once(searched, place):
    for stage in ("ingest", "split", "tokenizer", "tokenize"):
        assert len(artifacts(place, stage)) == 1


def test_the_best_recipe_finds_everything_built(searched, headrace):
    plan = headrace("plan", "recipe=best", "--json")
    assert {each["status"] for each in json.loads(plan.stdout)["nodes"]} == {"reuse"}


def test_a_finished_search_starts_nothing_and_says_the_same(searched, headrace, place):
    logs = list(place.glob(".headrace/logs/*"))
    again = headrace("tune", "recipe=small", SEARCH, SEED, "--json")
    assert again.returncode == 0, again.stderr
    assert list(place.glob(".headrace/logs/*")) == logs
    found = json.loads(again.stdout)
    assert [each["status"] for each in found["trials"]] == ["reused", "stopped early"]
    assert [each["value"] for each in found["trials"]] == [each["value"] for each in searched["trials"]]
    assert found["best"] == searched["best"]


def test_mlflow_has_the_search_its_trials_and_their_nodes(searched, place):
    from pipeline.tracking.server import open_client

    client = open_client(f"sqlite:///{place}/.headrace/mlflow/mlflow.db")
    (experiment,) = (each for each in client.search_experiments() if each.name == "headrace")
    runs = {each.info.run_id: each for each in client.search_runs([experiment.experiment_id])}

    def children(name: str) -> dict[str, Any]:
        return {
            each.info.run_name: each
            for each in runs.values()
            if (parent := runs.get(each.data.tags.get("mlflow.parentRunId", "")))
            and parent.info.run_name.startswith(name)
        }

    assert set(children("small search")) == {"corpus", "split", "tokenizer", "tokens", "trial 1", "trial 2"}
    good, bad = (children("small search")[name] for name in ("trial 1", "trial 2"))
    assert (good.info.status, bad.info.status) == ("FINISHED", "KILLED")
    assert good.data.params["stages.base.learning_rate"] == "0.01"
    assert good.data.metrics["eval/loss"] == pytest.approx(searched["trials"][0]["value"])
    assert children("trial 1")["base"].info.status == "FINISHED"
    assert children("trial 2")["base"].info.status == "KILLED"


@pytest.mark.soak
def test_an_interrupted_search_ends_with_130_and_goes_on(searched, place, headrace):
    """Two trials at once on whatever cores there are, in the store that has the shared nodes."""
    search = 'tune.search={stages.base.learning_rate: "choice(2e-2, 3e-2)"}'
    words = ["tune", "recipe=small", search, "tune.seed=1", "tune.max_concurrent=2", "tune.scheduler=none"]
    words.append("stages.base.num_steps=20")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words, "--json"],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    assert any("started trial" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in {each["status"] for each in json.loads(out)["trials"]}
    again = headrace(*words, "--json")
    assert again.returncode == 0, again.stderr
    assert {each["status"] for each in json.loads(again.stdout)["trials"]} <= {"finished", "reused"}
    assert len(artifacts(place, "tokenize")) == 1
