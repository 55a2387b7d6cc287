"""A toy recipe: lines of text, upper-cased or joined; small enough that only the DAG core is at work."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline.dag.fingerprint import fingerprint
from pipeline.dag.graph import Graph
from pipeline.dag.lineage import describe, gather_inputs
from pipeline.dag.plan import Planner
from pipeline.dag.resources import Resources
from pipeline.dag.stage import ExternalFile, Stage, StageContext, StageResult, circumstance, many_ports, port
from pipeline.dag.store import Artifact, Store


@dataclass
class Read(Stage):
    name: ClassVar[str] = "read"
    produces: ClassVar[str] = "lines"
    path: str = circumstance("")

    def external_files(self) -> list[ExternalFile]:
        return [ExternalFile("lines.txt", self.path)]

    def run(self, context: StageContext) -> StageResult:
        context.output.write_bytes("lines.txt", Path(self.path).read_bytes())
        return StageResult({"lines": 1})


@dataclass
class Upper(Stage):
    name: ClassVar[str] = "upper"
    produces: ClassVar[str] = "lines"

    @dataclass
    class Inputs:
        lines: str = port("lines")

    inputs: Inputs = field(default_factory=Inputs)
    suffix: str = ""
    noise: int = circumstance(0)

    def run(self, context: StageContext) -> StageResult:
        text = context.one("lines").folder.read_bytes("lines.txt").decode()
        context.output.write_bytes("lines.txt", (text.upper() + self.suffix).encode())
        context.output.write_bytes("logs/noise.txt", str(self.noise).encode())
        return StageResult()


@dataclass
class Join(Stage):
    name: ClassVar[str] = "join"
    produces: ClassVar[str] = "joined"

    @dataclass
    class Inputs:
        lines: list[str] = many_ports("lines")

    inputs: Inputs = field(default_factory=Inputs)

    def run(self, context: StageContext) -> StageResult:
        texts = [each.folder.read_bytes("lines.txt") for each in context.inputs["lines"]]
        context.output.write_bytes("all/lines.txt", b"".join(texts))
        return StageResult()


class Toy:
    """Stages on a store, and a builder that runs nodes in this process."""

    seconds = 2.0
    "What every node says it took."

    def __init__(self, folder: Path) -> None:
        self.file = folder / "lines.txt"
        self.file.write_text("one\ntwo\n")
        self.store = Store(str(folder / "store"))
        self.stages: dict[str, Stage] = {
            "read": Read(path=str(self.file)),
            "loud": Upper(inputs=Upper.Inputs(lines="read")),
            "joined": Join(inputs=Join.Inputs(lines=["read", "loud"])),
        }

    def planner(self, **options: Any) -> Planner:
        return Planner(Graph(self.stages), self.store, recipe="toy", **options)

    def build(self, *targets: str) -> dict[str, Artifact]:
        """What the runner does, without Ray, lock and events."""
        planner, artifacts = self.planner(), {}
        for node in planner.graph.needed_by(targets):
            identity = planner.identify(node, artifacts)
            key = fingerprint(identity)
            artifacts[node] = planner.find(node, key) or self._commit(planner, node, key, identity, artifacts)
        return artifacts

    def _commit(
        self, planner: Planner, node: str, key: str, identity: dict[str, Any], artifacts: dict[str, Artifact]
    ) -> Artifact:
        stage = self.stages[node]
        work = self.store.work_folder(stage.name, key)
        inputs = gather_inputs(planner.graph, node, artifacts)
        context = StageContext(
            node,
            key,
            inputs,
            work.child("output"),
            work.child("scratch"),
            Resources(),
            channel=None,
            map=None,
        )
        result = stage.run(context)
        facts = {"seconds": self.seconds}
        artifact = self.store.commit(describe(stage, context, identity, result, facts=facts, pinned=()))
        self.store.note_last("toy", node, stage.name, key)
        return artifact


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


@pytest.fixture
def toy_stages() -> Any:
    """The stage classes, for tests that build graphs of their own."""
    return type("ToyStages", (), {"Read": Read, "Upper": Upper, "Join": Join})


class Told:
    """A listener that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    def of(self, kind: type, node: str = "") -> list[Any]:
        """Events of one kind, of a node or of all."""
        return [each for each in self.events if isinstance(each, kind) and node in ("", each.node)]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path, monkeypatch):
    if request.param == "local":
        return Store(str(tmp_path / "store"))
    server = request.getfixturevalue("s3")
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    return Store(server.url(f"store/{tmp_path.parent.name}-{tmp_path.name}".lower()))
