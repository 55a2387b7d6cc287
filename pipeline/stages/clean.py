"""`clean`: texts are normalised, and what the rules refuse is dropped, counted by reason."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import ClassVar

from data.documents import DocumentWriter, read_documents
from data.filters import FilterRules, Judge
from data.normalize import NormalizeRules, normalize
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, port
from pipeline.stages.sharding import Naming, below, check_not_empty, map_shards


@dataclass
class Clean(Stage):
    """Normalises texts and drops documents by rule. Documents in = kept + the sum of dropped, by reason."""

    name: ClassVar[str] = "clean"
    produces: ClassVar[str] = "documents"

    @dataclass
    class Inputs:
        documents: str = port("documents")
        "What to clean."

    inputs: Inputs = field(default_factory=Inputs)
    normalize: NormalizeRules = field(default_factory=NormalizeRules)
    "What is made uniform before the rules look."
    rules: FilterRules = field(default_factory=FilterRules)
    "What a document must be to stay; a rule that is null is off. Published sets by name: rules@stages.NODE.rules=."

    def problems(self) -> list[Problem]:
        return below("normalize", self.normalize.problems()) + below("rules", self.rules.problems())

    def run(self, context: StageContext) -> StageResult:
        result = map_shards(context, context.one("documents"), clean_shard, self.normalize, self.rules)
        counters = result.counters
        dropped = sum(n for name, n in counters.items() if name.startswith("dropped/"))
        assert counters["documents_in"] == counters["documents"] + dropped, counters
        check_not_empty(counters["documents"], node=context.node, knob="rules")
        return result


def clean_shard(
    folder: Folder, name: str, output: Folder, normal: NormalizeRules, rules: FilterRules
) -> dict[str, int]:
    """Clean one shard."""
    judge = Judge(rules)
    counters: Counter[str] = Counter({"documents_in": 0, "documents": 0, "bytes": 0})
    with folder.opening(name) as source, output.writing(name) as sink, DocumentWriter(sink) as writer:
        for document in read_documents(source):
            counters["documents_in"] += 1
            with Naming(document.id):
                verdict = judge.judge(normalize(document.text, rules=normal))
            if verdict.reason:
                counters[f"dropped/{verdict.reason.value}"] += 1
                continue
            counters["documents"] += 1
            writer.write(replace(document, text=verdict.text))
        counters["bytes"] = writer.num_bytes
    return dict(counters) | judge.counters
