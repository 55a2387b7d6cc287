"""A node that begins on what another is still writing: the result is that of one that waited, whatever happens."""

import threading
import time
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from pipeline.dag.events import NodeFinished, NodeNote, NodeStarted
from pipeline.dag.following import Following
from pipeline.dag.graph import Graph
from pipeline.dag.plan import Planner
from pipeline.dag.resources import Resources
from pipeline.dag.stage import NoInputs, Stage, StageContext, StageResult, circumstance, many_ports
from pipeline.dag.store import Store
from pipeline.errors import StageFailedError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_ray")]
ITEMS = 4


@dataclass
class Write(Stage):
    """Writes a file per item, one after the other; `gate` holds the last one back until that file exists."""

    name: ClassVar[str] = "write"
    produces: ClassVar[str] = "numbers"
    inputs: NoInputs = field(default_factory=NoInputs)
    items: int = ITEMS
    gate: str = circumstance("")
    fail_at: str = circumstance("")

    def announced(self, inputs):
        return tuple(f"train/{n}.txt" for n in range(self.items))

    def run(self, context: StageContext) -> StageResult:
        last = self.items - 1
        work = {
            str(n): (context.output, n, self.gate if n == last else "", self.fail_at)
            for n in range(self.items)
        }
        context.map(write_item, work)
        return StageResult({"items": self.items})


def write_item(output, n, gate, fail_at):
    from pathlib import Path

    while gate and not Path(gate).exists():
        time.sleep(0.05)
    if str(n) == fail_at:
        raise ValueError("the item is bad")
    output.write_bytes(f"train/{n}.txt", f"{n}\n".encode())
    return {}


@dataclass
class Add(Stage):
    """Reads the files as they come."""

    name: ClassVar[str] = "add"
    produces: ClassVar[str] = "sum"

    @dataclass
    class Inputs:
        numbers: list[str] = many_ports("numbers")

    inputs: Inputs = field(default_factory=Inputs)
    seed: int = 0
    gate: str = circumstance("")
    fail_after: int = circumstance(-1)

    def follows(self):
        return frozenset({"numbers"})

    def run(self, context: StageContext) -> StageResult:
        given = [each.following or each.folder for each in context.inputs["numbers"]]
        work = (given, context.output, context.scratch, self.gate, self.fail_after)
        (found,) = context.map(add_up, {"all": work}).values()
        return StageResult({"sum": found["sum"]}, {"seen_before": float(found["seen_before"])})


def add_up(given, output, scratch, gate, fail_after):
    from pathlib import Path

    total, seen, seen_before = 0, 0, len(scratch.files())
    for each in given:
        paths = (
            (each.wait(n) for n in range(len(each)))
            if isinstance(each, Following)
            else sorted(each.local().glob("*.txt"))
        )
        for path in paths:
            total += int(path.read_text())
            seen += 1
            scratch.write_bytes(f"seen-{seen}", b"")
            if seen == fail_after:
                raise ValueError("the reader is bad")
            if gate and seen == ITEMS - 1:  # all that the writer gives before it is let go on
                Path(gate).write_text("on")
    output.write_bytes("sum.txt", str(total).encode())
    return {"sum": total, "seen_before": seen_before}


def ignore(_event):
    """Nobody listens."""


def run(store, stages, told=None):
    from pipeline.dag.runner import Runner

    planner = Planner(Graph(stages), store, recipe="toy")
    runner = Runner(
        planner, resources=lambda _: Resources(max_failures=0), listener=told or ignore, run_id="test"
    )
    return runner.run(planner.plan())


def recipe(*, gate="", fail_at="", fail_after=-1, wanted=("write/train",), seed=0):
    return {
        "write": Write(gate=gate, fail_at=fail_at),
        "add": Add(inputs=Add.Inputs(numbers=list(wanted)), seed=seed, gate=gate, fail_after=fail_after),
    }


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


def waited_for(tmp_path, **settings):
    """The artifact of one that waited: the writer is there before the reader is asked for."""
    store = Store(str(tmp_path / "waited"))
    stages = recipe(**settings)
    run(store, {"write": stages["write"]})
    return run(store, stages).artifacts["add"].manifest


def test_a_node_follows_one_that_waits_for_it_and_its_artifact_is_that_of_one_that_waited(
    store, tmp_path, told
):
    outcome = run(
        store, recipe(gate=str(tmp_path / "gate")), told
    )  # would wait for ever if it did not follow
    assert not outcome.failed
    assert sorted(outcome.built) == ["add", "write"]
    found, expected = outcome.artifacts["add"].manifest, waited_for(tmp_path)
    assert found.counters == {"sum": 6}
    assert (found.key, found.digest, found.payload) == (expected.key, expected.digest, expected.payload)
    assert found.inputs == expected.inputs
    (started,), (finished,) = told.of(NodeStarted, "add"), told.of(NodeFinished, "add")
    assert started.tags == {}
    assert finished.key == found.key
    assert list(finished.tags.values()) == [outcome.artifacts["write"].manifest.part_digest("train")]
    again = run(store, recipe())
    assert again.reused == ["write", "add"]
    assert not store.root.child("work").files()
    assert not store.root.child("locks").files()


def test_the_plan_says_that_it_follows(store):
    plan = Planner(Graph(recipe()), store, recipe="toy").plan()
    assert plan["add"].reasons == ["after the first files of write"]


def test_a_writer_that_fails_takes_its_follower_along_and_both_continue(store, tmp_path):
    outcome = run(store, recipe(fail_at="3", gate=str(tmp_path / "gate")))
    assert set(outcome.failed) == {"write", "add"}
    assert "the item is bad" in str(outcome.failed["write"])
    assert isinstance(outcome.failed["add"], StageFailedError)
    assert "follows" in outcome.failed["add"].what
    outcome = run(store, recipe())
    assert not outcome.failed
    assert outcome.artifacts["add"].manifest.digest == waited_for(tmp_path).digest


def test_work_that_was_begun_while_following_is_found_again_when_the_input_is_whole(store):
    outcome = run(store, recipe(fail_after=2))
    assert set(outcome.failed) == {"add"}
    assert "write" in outcome.artifacts
    plan = Planner(Graph(recipe()), store, recipe="toy").plan()
    assert "unfinished work is continued" in plan["add"].reasons
    outcome = run(store, recipe())
    assert outcome.reused == ["write"]
    assert outcome.artifacts["add"].manifest.metrics == {"seen_before": 2.0}


def test_an_artifact_that_turns_out_to_be_there_is_reused(store, tmp_path, told):
    first = run(store, recipe()).artifacts
    first["write"].folder.delete()
    outcome = run(store, recipe(gate=str(tmp_path / "gate")), told)
    assert outcome.built == ["write"]
    assert outcome.reused == ["add"]
    assert outcome.artifacts["add"].manifest.to_json() == first["add"].manifest.to_json()
    assert [note.text for note in told.of(NodeNote, "add")] == [
        "came to the same as an artifact that was there already"
    ]
    assert not store.root.child("work").files()


def test_a_writer_goes_on_though_every_core_is_held_by_those_who_wait_for_it(store, tmp_path):
    import ray

    def hold(marker, gate):
        marker.write_text("held")
        while not gate.exists():
            time.sleep(0.05)

    marker, gate = tmp_path / "held", tmp_path / "gate"
    holding = ray.remote(hold).options(num_cpus=2).remote(marker, gate)
    while not marker.exists():
        time.sleep(0.05)
    stages = recipe()
    running = threading.Thread(target=run, args=(store, stages), daemon=True)
    running.start()
    key = Planner(Graph(stages), store, recipe="toy").plan()["write"].key
    deadline = time.monotonic() + 30
    while not store.find("write", key) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert store.find("write", key)
    gate.write_text("go")
    ray.get(holding)
    running.join(30)
    assert not running.is_alive()


def test_one_that_needs_other_inputs_too_waits_for_those(store, tmp_path):
    stages = recipe(wanted=("write/train", "other/train"))
    stages["other"] = Write(items=3)
    outcome = run(store, stages)
    assert outcome.artifacts["add"].manifest.counters == {"sum": 9}
    assert not outcome.failed
