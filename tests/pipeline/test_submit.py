"""`headrace submit`: what goes along, what is refused before anything is sent, and jobs on a real cluster."""

import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.errors import ConfigError
from pipeline.submit.parcel import check_size, pack

ROOT = Path(__file__).parents[2]
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
  corpus: {paths: [TEXTS]}
  split: {inputs: {documents: corpus}}
  tokenizer: {inputs: {documents: split/train}, rules: {vocab_size: 300}}
  tokens: {inputs: {documents: split, tokenizer: tokenizer}}
  base:
    inputs: {tokens: tokens/train, tokenizer: tokenizer}
    model: {hidden_size: 32, intermediate_size: 64, num_layers: 1, num_heads: 2, num_kv_heads: 2, max_seq_len: 32}
    seq_len: 32
    global_batch_tokens: 32
    num_steps: 1000000
    precision: fp32
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with texts, a recipe beside it and another one in conf."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for number in range(40):
        (tmp_path / f"texts/{number}.txt").write_text(f"the river number {number} turns a wheel\n" * 5)
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("TEXTS", str(tmp_path / "texts")))
    (tmp_path / "conf/recipe").mkdir(parents=True)
    (tmp_path / "conf/recipe/other.yaml").write_text(RECIPE.replace("TEXTS", "/nowhere/*.txt"))
    return tmp_path


def names(content: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(content)).namelist())


def test_code_recipes_and_conf_go_along_and_nothing_else(place):
    (place / "conf/notes.txt").write_text("no configuration")
    (place / "secret.env").write_text("TOKEN=1")
    parcel = pack(["run", "recipe=mine.yaml", "store=/s"], folder=place)
    inside = names(parcel.content)
    assert {"pipeline/cli.py", "model/llama.py", "data/packing.py", "conf/pipeline.yaml"} <= inside
    assert {"job/mine.yaml", "job/conf/recipe/other.yaml", "start.sh"} <= inside
    assert {name.split("/")[0] for name in inside} == {"pipeline", "model", "data", "conf", "job", "start.sh"}
    assert not any("__pycache__" in name or "notes" in name for name in inside)
    assert parcel.command == ["run", "recipe=mine.yaml", "store=/s"]


def test_the_same_files_make_the_same_bytes(place):
    first = pack(["run", "recipe=mine.yaml"], folder=place)
    os.utime(place / "mine.yaml", (1, 1))
    assert pack(["run", "recipe=mine.yaml"], folder=place) == first
    (place / "mine.yaml").write_text(RECIPE)
    assert pack(["run", "recipe=mine.yaml"], folder=place).content != first.content


def test_a_recipe_from_elsewhere_is_found_in_the_job(place, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "far.yaml"
    path.write_text(RECIPE)
    parcel = pack(["plan", f"recipe={path}"], folder=place)
    assert parcel.command == ["plan", "recipe=far.yaml"]
    assert "job/far.yaml" in names(parcel.content)


def test_what_ray_would_not_take_is_refused_in_words(place):
    parcel = pack(["run"], folder=place)
    assert len(parcel.content) < 1_000_000
    check_size(parcel, limit=2**29, folder=place)
    with pytest.raises(ConfigError) as refused:
        check_size(parcel, limit=1000, folder=place)
    assert str(place / "conf") in refused.value.where


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--address", "http://127.0.0.1:1", "--", "plan", "store=/s"], "nobody answers there"),
        (["--address", "anyscale://x", "--", "plan", "store=/s"], "no address of a job server"),
        (["--address", "http://127.0.0.1:1", "--", "plan"], "would be lost with it"),
        (["--address", "http://127.0.0.1:1", "--", "plna"], 'did you mean "plan"'),
        (["--address", "http://127.0.0.1:1", "--", "ui"], "needs this terminal"),
        (["--address", "http://127.0.0.1:1"], "there is no verb to submit"),
        (["--", "plan"], "--address"),
        (["--address", "http://127.0.0.1:1", "--", "plan", "stages.base.lr=1"], 'no key "lr"'),
        (["--address", "http://127.0.0.1:1", "--", "plan", "store=/s", "recipe=gone.yaml"], "gone.yaml"),
    ],
)
def test_mistakes_end_before_anything_is_sent(place, capsys, argv, words):
    assert main(["submit", *argv]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    for part in ("where:", "allowed:", "do:"):
        assert part in said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a cluster on loopback that wants a token, whose PATH has no Python with Ray; and the token."""
    port = free_port()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= token | {"PATH": "/usr/local/bin:/usr/bin:/bin", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        start = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
        start += [f"--port={free_port()}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
        start += [f"--dashboard-port={port}", f"--ray-client-server-port={free_port()}"]
        start += [f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=100000000"]
        ray = subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert ray.stdout
            assert any("Ray runtime started" in line for line in ray.stdout)
            yield f"http://127.0.0.1:{port}", token
        finally:
            ray.terminate()
            ray.wait(30)


@pytest.fixture
def submit(place, cluster) -> Callable[..., subprocess.Popen[str]]:
    def start(*argv: str, token: bool = True) -> subprocess.Popen[str]:
        address, with_token = cluster
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"PYTHONPATH": str(ROOT), "HOME": str(place)} | (with_token if token else {})
        command = [sys.executable, "-m", "pipeline", "submit", "--address", address, *argv]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=place, env=environment, stdout=pipe, stderr=pipe, text=True)

    return start


@pytest.mark.slow
def test_a_verb_runs_on_the_cluster_and_its_log_comes_back(submit, place):
    job = submit("--json", "--", "run", "tokens", "recipe=mine.yaml", f"store={place}/store")
    out, log = job.communicate(timeout=90)
    assert job.returncode == 0, log
    facts = json.loads(out)
    assert (facts["status"], facts["exit_code"]) == ("SUCCEEDED", 0)
    assert facts["sent_bytes"] < 1_000_000
    assert "tokens" in log
    assert "Traceback" not in log
    assert list(place.glob("store/artifacts/tokenize/*/manifest.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["plan", "bass", "recipe=mine.yaml"], 2, 'did you mean "base"', marks=pytest.mark.soak),
        (["plan", "recipe=other"], 3, "/nowhere"),
    ],
)
def test_the_exit_code_of_the_verb_comes_back(submit, place, words, code, said):
    job = submit("--", *words, f"store={place}/store")
    out, err = job.communicate(timeout=60)
    assert job.returncode == code, out + err
    assert said in " ".join(out.split())


@pytest.mark.soak
def test_an_interrupt_stops_the_job(submit, place, cluster):
    job = submit("--", "run", "recipe=mine.yaml", f"store={place}/store")
    assert job.stdout
    for line in job.stdout:
        if "started pretrain" in line:
            break
    job.send_signal(signal.SIGINT)
    out, err = job.communicate(timeout=60)
    assert job.returncode == 130, out + err
    waiting = submit("--no-wait", "--json", "--", "plan", "recipe=mine.yaml", f"store={place}/store")
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    facts = json.loads(out)
    assert facts["exit_code"] is None
    assert facts["submission_id"] in facts["look_again"]
    assert facts["submission_id"] in err


@pytest.mark.slow
def test_a_cluster_that_does_not_know_us_is_told_in_words(submit, place):
    job = submit("--", "plan", f"store={place}/store", token=False)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 2
    assert "RAY_AUTH_TOKEN" in err
    assert "Traceback" not in err
