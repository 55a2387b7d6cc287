"""Tracking against a real MLflow on SQLite."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.dag.events import NodeFailed, NodeFinished, NodeMetrics, NodeProgress, NodeStarted
from pipeline.errors import StageFailedError
from pipeline.tracking.config import TrackingConfig, tracking_uri
from pipeline.tracking.events import record
from pipeline.tracking.server import create_database, open_client
from pipeline.tracking.tracker import Tracker

CLOSE_SECONDS = 60


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    create_database(path)
    return path


@pytest.fixture
def store(tmp_path, empty_database):
    """A local store with MLflow's database ready: its migrations take a second, and are tested once."""
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(empty_database.read_bytes())
    return tmp_path


def open_tracker(store: Path, uri: str | None = None) -> Tracker:
    return Tracker(TrackingConfig(uri=uri), store_path=store, spool=store / "spool")


def begin(tracker: Tracker) -> None:
    tracker.start_run(
        name="tiny",
        recipe_yaml="stages: {}\n",
        graph_mermaid="graph LR",
        graph_svg="<svg/>",
        tags={"commit": "abc"},
    )


def begin_base(tracker: Tracker, **params: object) -> None:
    tracker.start_node("base", stage="pretrain", key="k1", params=params, tags={"headrace.fingerprint": "k1"})


def finish_base(tracker: Tracker, status: str = "FINISHED", **metrics: float) -> None:
    tracker.finish_node(
        "base", status, metrics=metrics, artifact_url="/store/artifacts/k1", digest="d1", note="**ok**"
    )


class Remembered:
    """What MLflow has in the end."""

    def __init__(self, store: Path, uri: str | None = None) -> None:
        self.client = open_client(tracking_uri(TrackingConfig(uri=uri), store_path=store))

    def runs(self, name: str) -> list:
        experiment = self.client.get_experiment_by_name("headrace")
        found = self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
        return [run for run in found if run.info.run_name == name]

    def run(self, name: str):
        (run,) = self.runs(name)
        return run

    def history(self, name: str, metric: str) -> list[tuple[int, float]]:
        found = self.client.get_metric_history(self.run(name).info.run_id, metric)
        return [(each.step, each.value) for each in found]

    def text(self, name: str, file: str) -> str:
        return Path(self.client.download_artifacts(self.run(name).info.run_id, file)).read_text()


def test_a_run_and_its_node_are_remembered_whole(store):
    tracker = open_tracker(store)
    begin(tracker)
    begin_base(tracker, learning_rate=3e-4, num_steps=20, betas=[0.9, 0.95])
    for step in range(1, 21):
        tracker.metrics("base", {"train/loss": 10.0 / step}, step=step, tokens=step * 100)
    finish_base(tracker, **{"eval/loss": 0.5})
    tracker.finish_run("FINISHED", note="| node |")
    assert tracker.close(CLOSE_SECONDS) == 0

    remembered = Remembered(store)
    parent, child = remembered.run("tiny"), remembered.run("base")
    assert parent.info.status == child.info.status == "FINISHED"
    assert parent.data.tags["commit"] == "abc"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["headrace.artifact.digest"] == "d1"
    assert child.data.tags["mlflow.note.content"] == "**ok**"
    assert child.data.params == {"learning_rate": "0.0003", "num_steps": "20", "betas": "[0.9, 0.95]"}
    assert remembered.history("base", "train/loss") == [(step, 10.0 / step) for step in range(1, 21)]
    assert remembered.history("base", "train/tokens")[-1] == (20, 2000.0)
    assert remembered.history("base", "eval/loss") == [(20, 0.5)]
    assert remembered.text("tiny", "recipe.yaml") == "stages: {}\n"
    assert "<svg/>" in remembered.text("tiny", "graph.html")
    assert json.loads(remembered.text("base", "artifact.json"))["url"] == "/store/artifacts/k1"
    assert list((store / "spool").iterdir()) == []


def test_opening_a_tracker_imports_no_mlflow_and_waits_for_nothing(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.tracker import Tracker
assert "mlflow" not in sys.modules
path = Path({str(tmp_path)!r})
uri = "http://127.0.0.1:9"  # nobody listens on the discard port
tracker = Tracker(TrackingConfig(uri=uri), store_path=None, spool=path)
tracker.start_run(name="x", recipe_yaml="", graph_mermaid="", tags={{}})
print(tracker.close(0.1))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "1"
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


KILLED_DRIVER = """
import sys, time
from pathlib import Path
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.tracker import Tracker
store = Path(sys.argv[1])
tracker = Tracker(TrackingConfig(), store_path=store, spool=store / "spool")
tracker.start_run(name="first", recipe_yaml="", graph_mermaid="", tags={})
tracker.start_node("base", stage="pretrain", key="k1", params={"num_steps": 20, "num_workers": 2}, tags={})
for step in range(1, 11):
    tracker.metrics("base", {"train/loss": float(step)}, step=step, tokens=step)
print("recorded", flush=True)
time.sleep(600)
"""


def kill_driver_after(store: Path, delivered_steps: int) -> None:
    """Start a driver, let MLflow have at least so many steps of its metrics, and kill it."""
    driver = subprocess.Popen([sys.executable, "-c", KILLED_DRIVER, str(store)], stdout=subprocess.PIPE)
    assert driver.stdout.readline() == b"recorded\n"
    deadline = time.monotonic() + CLOSE_SECONDS
    while delivered_steps and time.monotonic() < deadline:
        time.sleep(0.2)
        states = [json.loads(path.read_text()) for path in (store / "spool").glob("*.delivered")]
        if states and states[0]["steps"].get("base", 0) >= delivered_steps:
            break
    driver.send_signal(signal.SIGKILL)
    driver.wait()


@pytest.mark.parametrize(
    "delivered_steps",
    [pytest.param(0, id="nothing delivered"), pytest.param(10, id="all delivered", marks=pytest.mark.slow)],
)
def test_a_killed_run_reads_killed_and_its_node_continues_under_the_same_id(store, delivered_steps):
    kill_driver_after(store, delivered_steps)

    sweeper = open_tracker(store)
    sweeper.close(CLOSE_SECONDS)
    remembered = Remembered(store)
    assert remembered.run("first").info.status == "KILLED"
    assert remembered.run("base").info.status == "KILLED"
    killed_id = remembered.run("base").info.run_id

    tracker = open_tracker(store)
    begin(tracker)
    begin_base(tracker, num_steps=20, num_workers=1)
    for step in range(6, 21):  # from the checkpoint at step 5
        tracker.metrics("base", {"train/loss": float(step)}, step=step)
    finish_base(tracker)
    tracker.finish_run("FINISHED")
    assert tracker.close(CLOSE_SECONDS) == 0

    child = remembered.run("base")
    assert child.info.run_id == killed_id
    assert child.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == remembered.run("tiny").info.run_id
    assert child.data.params == {"num_steps": "20", "num_workers": "2"}
    assert child.data.tags["now.num_workers"] == "1"
    assert remembered.history("base", "train/loss") == [(step, float(step)) for step in range(1, 21)]
    assert remembered.run("first").info.status == "KILLED"


def test_a_finished_node_that_runs_again_is_a_new_run(store):
    for _ in range(2):
        tracker = open_tracker(store)
        begin(tracker)
        begin_base(tracker)
        finish_base(tracker)
        tracker.finish_run("FINISHED")
        assert tracker.close(CLOSE_SECONDS) == 0
    assert len(Remembered(store).runs("base")) == 2


def test_delivering_a_spool_twice_changes_nothing(store):
    tracker = open_tracker(store, uri="http://127.0.0.1:9")
    begin(tracker)
    begin_base(tracker, num_steps=2)
    tracker.metrics("base", {"train/loss": 1.0}, step=1)
    tracker.finish_run("FAILED")
    assert tracker.close(0.1) == 4
    (spool,) = (store / "spool").glob("*.jsonl")
    uri = tracking_uri(TrackingConfig(), store_path=store)
    content = spool.read_bytes().replace(b"http://127.0.0.1:9", uri.encode())
    for name in ("1-first.jsonl", "2-again.jsonl"):
        (store / "spool" / name).write_bytes(content + b'{"op":"metr')  # cut short by a kill
        open_tracker(store).close(CLOSE_SECONDS)
    remembered = Remembered(store)
    assert remembered.run("tiny").info.status == "FAILED"
    assert remembered.history("base", "train/loss") == [(1, 1.0)]


def test_the_runner_s_events_become_records(store):
    tracker = open_tracker(store)
    begin(tracker)
    for event in (
        NodeStarted("base", "pretrain", "k1", {"num_steps": 2}, {"headrace.input.tokens": "d0"}),
        NodeProgress("base", 1, 2, "steps"),
        NodeMetrics("base", {"train/loss": 2.5}, step=1, tokens=64),
        NodeFinished("base", "pretrain", "k1", "/store/k1", "d1", 3.0, {"tokens": 128}, {"eval/loss": 2.0}),
        NodeStarted("clean", "clean", "k2"),
        NodeFailed("clean", StageFailedError("no rows", do="look")),
        NodeStarted("dedup", "dedup", "k3"),
        NodeFailed("dedup", StageFailedError("stopped"), interrupted=True),
    ):
        record(tracker, event)
    tracker.finish_run("FAILED")
    assert tracker.close(CLOSE_SECONDS) == 0
    remembered = Remembered(store)
    base, clean, dedup = (remembered.run(name) for name in ("base", "clean", "dedup"))
    assert [run.info.status for run in (base, clean, dedup)] == ["FINISHED", "FAILED", "KILLED"]
    assert base.data.metrics == {"train/loss": 2.5, "train/tokens": 64, "eval/loss": 2.0, "count/tokens": 128}
    assert base.data.tags["headrace.input.tokens"] == "d0"
    assert base.data.tags["headrace.fingerprint"] == "k1"
    assert "no rows" in clean.data.tags["mlflow.note.content"]


def test_long_and_odd_parameters_kill_nothing(store):
    tracker = open_tracker(store)
    begin(tracker)
    begin_base(tracker, **{"text": "x" * 10_000, "odd[name]": 1, **{f"p{i}": i for i in range(250)}})
    finish_base(tracker)
    assert tracker.close(CLOSE_SECONDS) == 0
    remembered = Remembered(store)
    params = remembered.run("base").data.params
    assert len(params) == 252
    assert params["odd_name_"] == "1"
    assert len(params["text"]) == 500
    assert json.loads(remembered.text("base", "params.json"))["text"] == "x" * 10_000


def test_a_record_that_mlflow_refuses_holds_up_nothing_after_it(store):
    tracker = open_tracker(store)
    begin(tracker)
    begin_base(tracker)
    tracker.metrics("base", {"train/loss": "not a number"}, step=1)
    tracker.metrics("unknown node", {"train/loss": 1.0}, step=1)
    finish_base(tracker, **{"eval/loss": 2.0})
    assert tracker.close(CLOSE_SECONDS) == 0
    assert Remembered(store).run("base").info.status == "FINISHED"
