"""`split`: documents go to train, validation or test by a hash of their id."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import ClassVar

from data.documents import DocumentWriter, read_documents
from data.splits import Split as Part
from data.splits import SplitRules, split_of
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, below, port
from pipeline.stages.sharding import check_not_empty, map_shards


@dataclass
class Split(Stage):
    """Holds documents out. The artifact's parts are `train`, `validation` and `test`."""

    name: ClassVar[str] = "split"
    produces: ClassVar[str] = "documents"

    @dataclass
    class Inputs:
        documents: str = port("documents")
        "What to divide."

    inputs: Inputs = field(default_factory=Inputs)
    rules: SplitRules = field(default_factory=SplitRules)
    "How much is held out."

    def problems(self) -> list[Problem]:
        return below("rules", self.rules.problems())

    def run(self, context: StageContext) -> StageResult:
        result = map_shards(context, context.one("documents"), split_shard, self.rules)
        check_not_empty(result.counters["train"], node=context.node, knob="rules", counters=result.counters)
        return result


def split_shard(folder: Folder, name: str, output: Folder, rules: SplitRules) -> dict[str, int]:
    """Divide one shard into one of each part."""
    counters: Counter[str] = Counter({part.value: 0 for part in Part})
    with ExitStack() as stack:
        source = stack.enter_context(folder.opening(name))
        writers = {
            part: stack.enter_context(
                DocumentWriter(stack.enter_context(output.writing(f"{part.value}/{name}")))
            )
            for part in Part
        }
        for document in read_documents(source):
            part = split_of(document, rules=rules)
            writers[part].write(document)
            counters[part.value] += 1
    return dict(counters) | {"documents": sum(counters.values())}
