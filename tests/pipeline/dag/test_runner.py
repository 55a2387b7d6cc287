"""The runner on a real Ray: what is built, reused, retried, resumed and reported."""

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from pipeline.dag.events import NodeFailed, NodeFinished, NodeProgress, NodeReused, NodeStarted
from pipeline.dag.graph import Graph
from pipeline.dag.plan import Planner
from pipeline.dag.resources import Resources
from pipeline.dag.stage import NoInputs, Stage, StageContext, StageResult, circumstance
from pipeline.errors import StageFailedError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_ray")]


@dataclass
class Count(Stage):
    """Writes a file per item; an item may dawdle, die once, or fail."""

    name: ClassVar[str] = "count"
    produces: ClassVar[str] = "numbers"
    inputs: NoInputs = field(default_factory=NoInputs)
    items: int = 4
    seconds: float = circumstance(0.0)
    die_once: str = circumstance("")
    fail_at: str = circumstance("")
    log: str = circumstance("")

    def run(self, context: StageContext) -> StageResult:
        work = {
            f"item-{n}": (context.output, f"item-{n}", self.seconds, self.die_once, self.fail_at, self.log)
            for n in range(self.items)
        }
        results = context.map(count_item, work)
        return StageResult({"items": sum(each["items"] for each in results.values())})


def count_item(output, name, seconds, die_once, fail_at, log):
    with open(log, "a") as sink:  # noqa: PTH123
        sink.write(f"{name}\n")
    time.sleep(seconds)
    if name == fail_at:
        error = ValueError("the item is bad")
        error.add_note("at document corpus/a.txt")
        raise error
    if die_once and not os.path.exists(die_once):  # noqa: PTH110
        with open(die_once, "w"):  # noqa: PTH123
            os.kill(os.getpid(), signal.SIGKILL)
    output.write_bytes(f"{name}.txt", name.encode())
    return {"items": 1}


def ignore(_event):
    """Nobody listens."""


def run(toy, *targets, told=None):
    from pipeline.dag.runner import Runner

    planner = Planner(Graph(toy.stages), toy.store, recipe="toy")
    runner = Runner(
        planner,
        resources=lambda _: Resources(max_failures=1),
        listener=told or ignore,
        run_id="test",
    )
    return runner.run(planner.plan(targets))


def count(tmp_path, **settings):
    return Count(log=str(tmp_path / "log.txt"), **settings)


def logged(tmp_path):
    return sorted((tmp_path / "log.txt").read_text().split())


def test_a_new_recipe_is_built_in_order_and_the_next_run_reuses_it(toy, told):
    outcome = run(toy, told=told)
    assert outcome.built == ["read", "loud", "joined"]
    assert outcome.artifacts["joined"].folder.read_bytes("all/lines.txt") == b"one\ntwo\nONE\nTWO\n"
    assert [event.node for event in told.of(NodeStarted)] == outcome.built
    assert [event.digest for event in told.of(NodeFinished)] == [
        outcome.artifacts[node].manifest.digest for node in outcome.built
    ]
    again = type(told)()
    assert run(toy, told=again).reused == ["read", "loud", "joined"]
    assert len(again.of(NodeReused)) == 3
    assert not again.of(NodeStarted)


def test_equal_bytes_cut_the_rest_off_while_running(toy):
    run(toy)
    toy.file.write_text("One\ntwo\n")  # `loud` gives the same bytes again
    toy.stages.pop("joined")
    toy.stages["louder"] = type(toy.stages["loud"])(inputs=type(toy.stages["loud"]).Inputs(lines="loud"))
    first = run(toy).artifacts["louder"]
    toy.file.write_text("ONE\ntwo\n")
    outcome = run(toy)
    assert outcome.built == ["read", "loud"]
    assert outcome.reused == ["louder"]
    assert outcome.artifacts["louder"].manifest.key == first.manifest.key


def test_items_are_counted_and_progress_is_told(toy, tmp_path, told):
    toy.stages = {"count": count(tmp_path)}
    outcome = run(toy, told=told)
    assert outcome.artifacts["count"].manifest.counters == {"items": 4}
    assert [(event.done, event.total) for event in told.of(NodeProgress)][-1] == (4, 4)


def test_a_lost_worker_costs_one_item_and_not_the_node(toy, tmp_path):
    toy.stages = {"count": count(tmp_path, die_once=str(tmp_path / "died"))}
    outcome = run(toy)
    assert outcome.built == ["count"]
    assert len(logged(tmp_path)) <= 6  # four, the one that died, and its neighbour on the other core at most


def test_a_failure_names_the_node_the_item_and_the_first_cause(toy, tmp_path, told):
    toy.stages = {"count": count(tmp_path, fail_at="item-2")}
    outcome = run(toy, told=told)
    error = outcome.failed["count"]
    assert "ValueError: the item is bad" in error.what
    assert "node count" in error.where
    assert "item item-2" in error.where
    assert "document corpus/a.txt" in error.where
    assert error.exit_code == 1
    assert [event.node for event in told.of(NodeFailed)] == ["count"]


def test_finished_items_are_not_done_again_when_the_node_is_resumed(toy, tmp_path):
    toy.stages = {"count": count(tmp_path, fail_at="item-3", items=6)}
    run(toy)
    done = len(list((tmp_path / "store/work").glob("count/*/done/count_item/*.json")))
    toy.stages = {"count": count(tmp_path, items=6)}
    (tmp_path / "log.txt").unlink()
    assert run(toy).built == ["count"]
    assert len(logged(tmp_path)) == 6 - done


def test_a_failed_node_starts_nothing_below_it(toy, tmp_path):
    toy.stages["read"].path = str(tmp_path)  # a folder cannot be read as a file
    toy.stages["count"] = count(tmp_path)
    with pytest.raises(Exception, match="cannot be read"):
        run(toy)
    toy.stages["read"].path = str(toy.file)
    toy.stages["loud"].suffix = None  # fails while it runs
    outcome = run(toy)
    assert set(outcome.failed) == {"loud"}
    assert "joined" not in outcome.artifacts


def test_two_runs_on_one_store_build_each_artifact_once(toy, tmp_path):
    toy.stages = {"count": count(tmp_path, seconds=0.3)}
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(run(toy))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(outcome.built) for outcome in outcomes) == [0, 1]
    assert logged(tmp_path) == [f"item-{n}" for n in range(4)]


def test_giving_up_ends_the_run_at_once_with_the_reason(toy, tmp_path):
    from pipeline.dag.runner import Runner

    toy.stages = {"count": count(tmp_path, seconds=30)}
    planner = Planner(Graph(toy.stages), toy.store, recipe="toy")
    runner = Runner(planner, resources=lambda _: Resources(), listener=ignore, run_id="test")
    threading.Timer(3, runner.give_up, (StageFailedError("the raylet died"),)).start()
    began = time.monotonic()
    outcome = runner.run(planner.plan())
    assert time.monotonic() - began < 15
    assert outcome.failed["count"].what == "the raylet died"


def test_no_thread_of_an_interrupted_run_outlives_it(toy, tmp_path):
    def interrupt(event):
        if isinstance(event, NodeProgress):
            raise KeyboardInterrupt

    toy.stages = {"count": count(tmp_path, seconds=30)}
    before = set(threading.enumerate())
    outcome = run(toy, told=interrupt)
    assert outcome.is_interrupted
    assert [each.name for each in set(threading.enumerate()) - before] == []


def test_a_call_after_the_connection_has_ended_fails_and_begins_no_ray(on_ray):
    import ray

    ray.shutdown()
    with pytest.raises(ray.exceptions.RaySystemError, match="not been started"):
        ray.put(1)
    assert not ray.is_initialized()
