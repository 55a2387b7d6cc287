"""What a node was built from, as tags of its run."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.dag.lineage import gather_inputs, input_tags
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Stage, StageContext, StageResult


@dataclass
class Halves(Stage):
    """An artifact of two parts."""

    name: ClassVar[str] = "halves"
    produces: ClassVar[str] = "lines"

    def run(self, context: StageContext) -> StageResult:
        for part in ("first", "second"):
            context.output.write_bytes(f"{part}/lines.txt", part.encode())
        return StageResult()


def test_two_parts_of_one_node_at_one_port_have_a_tag_each(toy):
    lines = ["halves/first", "read", "halves/second"]
    toy.stages = {
        "read": toy.stages["read"],
        "halves": Halves(),
        "joined": type(toy.stages["joined"])(inputs=type(toy.stages["joined"]).Inputs(lines=lines)),
    }
    artifacts = toy.build()
    inputs = gather_inputs(toy.planner().graph, "joined", artifacts)
    work = toy.store.work_folder("join", "key")
    context = StageContext("joined", "key", inputs, work, work, Resources(), channel=None, map=None)
    halves, read = artifacts["halves"].manifest, artifacts["read"].manifest
    assert input_tags(context) == {
        "headrace.input.lines.halves/first": halves.part_digest("first"),
        "headrace.input.lines.halves/second": halves.part_digest("second"),
        "headrace.input.lines.read": read.digest,
    }
