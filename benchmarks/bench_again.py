"""How long nothing takes: a finished recipe run again, `headrace plan`, 200 nodes, and the DAG core with 10,000.

Against limits: 1.5 s for a finished recipe and for its plan, without a Ray process; 2.5 s for the plan of 200 nodes;
3 s for 10,000 nodes as dataclasses.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import psutil
from measure import Contender, arguments, compare, publish

from pipeline.dag.fingerprint import fingerprint
from pipeline.dag.graph import Graph
from pipeline.dag.lineage import describe, gather_inputs
from pipeline.dag.plan import Planner
from pipeline.dag.resources import Resources
from pipeline.dag.stage import NoInputs, Stage, StageContext, StageResult, optional_port
from pipeline.dag.store import Store

HEADRACE = Path(sys.executable).with_name("headrace")


@dataclass
class Number(Stage):
    """The smallest stage: one file out of at most one input."""

    name: ClassVar[str] = "number"
    produces: ClassVar[str] = "number"

    @dataclass
    class Inputs:
        before: str = optional_port("number")

    inputs: Inputs | NoInputs = field(default_factory=Inputs)
    value: int = 0

    def run(self, context: StageContext) -> StageResult:
        context.output.write_bytes("number.txt", str(self.value).encode())
        return StageResult()


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--store", help="a store with the quickstart finished (default: it is built first)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = options.store or str(Path(temporary) / "store")
        subprocess.run([HEADRACE, "run", f"store={store}"], check=True)
        wide = _wide_recipe(Path(temporary) / "wide.yaml", num_nodes=200)
        planner = _built(Path(temporary) / "numbers", num_nodes=10_000)
        results = [
            compare(
                "a finished recipe, run again",
                {"run": _command("run", store)},
                repeats=options.repeats,
                most_seconds=1.5,
            ),
            compare(
                "a finished recipe, planned",
                {"plan": _command("plan", store)},
                repeats=options.repeats,
                most_seconds=1.5,
            ),
            compare(
                "a recipe of 200 nodes, planned",
                {"plan": _command("plan", f"{temporary}/empty", f"recipe={wide}")},
                repeats=options.repeats,
                most_seconds=2.5,
            ),
            compare(
                "10,000 nodes as dataclasses, all built",
                {"plan": lambda: _plan(planner)},
                repeats=options.repeats,
                most_seconds=3.0,
            ),
        ]
    return 0 if publish(results, json_file=options.json) else 1


def _command(verb: str, store: str, *overrides: str) -> Contender:
    """A command as a user types it; no Ray process may come to be."""

    def run() -> None:
        before = _raylets()
        subprocess.run([HEADRACE, verb, f"store={store}", *overrides], check=True, stdout=subprocess.DEVNULL)
        assert _raylets() <= before, "a Ray was started"

    return run


def _raylets() -> set[int]:
    return {process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "raylet"}


def _plan(planner: Planner) -> None:
    assert planner.plan().is_finished


def _wide_recipe(path: Path, *, num_nodes: int) -> Path:
    """A recipe of one corpus and a row of `clean` nodes, each after the one before."""
    names = [f"clean_{number:03d}" for number in range(num_nodes - 1)]
    defaults = ["  - /stage/ingest@stages.corpus", *(f"  - /stage/clean@stages.{name}" for name in names)]
    inputs = [
        f"  {name}: {{inputs: {{documents: {before}}}}}"
        for before, name in zip(["corpus", *names], names, strict=False)
    ]
    lines = [
        "defaults:",
        *defaults,
        "  - _self_",
        "stages:",
        '  corpus: {paths: ["python://stdlib"]}',
        *inputs,
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def _built(folder: Path, *, num_nodes: int) -> Planner:
    """A store in which every node of a chain-like graph is built."""
    stages: dict[str, Stage] = {
        f"n{number}": Number(Number.Inputs(before=f"n{number - 10}" if number >= 10 else ""), value=number)
        for number in range(num_nodes)
    }
    store = Store(str(folder))
    planner = Planner(Graph(stages), store, recipe="numbers")
    artifacts = {}
    for node in planner.graph.order:
        identity = planner.identify(node, artifacts)
        key = fingerprint(identity)
        work = store.work_folder("number", key)
        inputs = gather_inputs(planner.graph, node, artifacts)
        output, scratch = work.child("output"), work.child("scratch")
        context = StageContext(node, key, inputs, output, scratch, Resources(), None, None)
        result = stages[node].run(context)
        artifacts[node] = store.commit(describe(stages[node], context, identity, result, facts={}, pinned=()))
    return planner


if __name__ == "__main__":
    sys.exit(main())
