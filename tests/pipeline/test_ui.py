"""The MLflow server behind `headrace ui`, and tracking to it."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest

from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.server import open_client
from pipeline.tracking.tracker import Tracker
from pipeline.verbs.ui import Address, free_address, serving, ui


def test_a_taken_port_gives_way_to_the_next_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_address(Address(port=port)).port > port


def test_a_tracking_server_is_its_own_ui(capsys):
    ui("http://tracking.example:5000", out=sys.stdout)
    assert "http://tracking.example:5000" in capsys.readouterr().out


@pytest.mark.slow
def test_the_server_answers_and_ends_with_the_command(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = f"from pipeline.verbs.ui import *; ui({uri!r}, address=Address(port=0))"
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    url = command.stdout.readline().split()[2].split("/#")[0]
    assert urllib.request.urlopen(f"{url}/health", timeout=5).status == 200
    workers = psutil.Process(command.pid).children(recursive=True)
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 0
    assert workers
    assert not [worker for worker in workers if worker.is_running()]


@pytest.mark.slow
def test_what_happened_while_the_server_was_away_follows_when_it_is_back(tmp_path):
    address = free_address(Address(port=0))
    config = TrackingConfig(uri=address.url)
    tracker = Tracker(config, store_path=None, spool=tmp_path / "spool")
    tracker.start_run(name="tiny", recipe_yaml="a: 1", graph_mermaid="graph LR", tags={})
    tracker.start_node("base", stage="pretrain", key="k1", params={"num_steps": 3}, tags={})
    for step in range(1, 1501):
        tracker.metrics("base", {"train/loss": 1.0 / step}, step=step, tokens=step)
    time.sleep(2)
    assert list((tmp_path / "spool").glob("*.jsonl"))
    with serving(f"sqlite:///{tmp_path / 'mlflow.db'}", address=address):
        tracker.finish_node("base", "FINISHED", metrics={}, artifact_url="", note="")
        tracker.finish_run("FINISHED")
        assert tracker.close(60) == 0
        client = open_client(address.url)
        (experiment,) = [each for each in client.search_experiments() if each.name == "headrace"]
        runs = client.search_runs([experiment.experiment_id])
        assert {(run.info.run_name, run.info.status) for run in runs} == {
            ("tiny", "FINISHED"),
            ("base", "FINISHED"),
        }
        (base,) = [run for run in runs if run.info.run_name == "base"]
        assert len(client.get_metric_history(base.info.run_id, "train/loss")) == 1500
