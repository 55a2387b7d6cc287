"""`clean`: texts are normalised, and what the rules refuse is dropped, counted by reason."""

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import ClassVar

from data.documents import Document, DocumentWriter, read_documents
from data.filters import FilterRules, Judge, Verdict
from data.masking import MaskRules, mask
from data.normalize import NormalizeRules, normalize
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, below, port
from pipeline.dag.store import LOGS
from pipeline.stages.sharding import Naming, check_not_empty, map_shards, sum_below


@dataclass
class Clean(Stage):
    """Normalises texts and drops documents by rule. Documents in = kept + the sum of dropped, by reason."""

    name: ClassVar[str] = "clean"
    version: ClassVar[int] = 2
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
    mask: MaskRules = field(default_factory=MaskRules)
    "Personal data that is replaced in what stays."

    keep_dropped: bool = False
    "Whether what is dropped is kept beside the artifact, with its reason: `headrace inspect NODE --dropped all`."

    def problems(self) -> list[Problem]:
        return [
            problem
            for name in ("normalize", "rules", "mask")
            for problem in below(name, getattr(self, name).problems())
        ]

    def run(self, context: StageContext) -> StageResult:
        result = map_shards(context, context.one("documents"), clean_shard, self)
        counters = result.counters
        assert counters["documents_in"] == counters["documents"] + sum_below(counters, "dropped"), counters
        assert counters.get("lines_in", 0) == counters.get("lines", 0) + sum_below(counters, "lines_dropped")
        check_not_empty(counters["documents"], node=context.node, knob="rules", counters=counters)
        return result


def clean_shard(folder: Folder, name: str, output: Folder, settings: Clean) -> dict[str, int]:
    """Clean one shard."""
    judge = Judge(settings.rules)
    counters: Counter[str] = Counter({"documents_in": 0, "documents": 0, "bytes": 0})
    with ExitStack() as stack:
        source = stack.enter_context(folder.opening(name))
        kept = _writer(stack, output, name)
        dropped = _writer(stack, output, f"{LOGS}dropped/{name}") if settings.keep_dropped else None
        for document in read_documents(source):
            counters["documents_in"] += 1
            with Naming(document.id):
                verdict = judge.judge(normalize(document.text, rules=settings.normalize))
                if verdict.reason:
                    counters[f"dropped/{verdict.reason.value}"] += 1
                    if dropped:
                        dropped.write(_with_reason(document, verdict))
                    continue
                kept.write(replace(document, text=_masked(verdict.text, settings.mask, counters)))
            counters["documents"] += 1
        counters["bytes"] = kept.num_bytes
    return dict(counters) | judge.counters


def _writer(stack: ExitStack, output: Folder, name: str) -> DocumentWriter:
    return stack.enter_context(DocumentWriter(stack.enter_context(output.writing(name))))


def _with_reason(document: Document, verdict: Verdict) -> Document:
    """The normalised text; `dropped` in its metadata says why, and `language` where one was asked for."""
    assert verdict.reason
    facts = {"dropped": verdict.reason.value} | ({"language": verdict.language} if verdict.language else {})
    metadata = json.loads(document.metadata or "{}") | facts
    return replace(document, text=verdict.text, metadata=json.dumps(metadata, sort_keys=True))


def _masked(text: str, rules: MaskRules, counters: Counter[str]) -> str:
    if not rules.is_on:
        return text
    text, found = mask(text, rules=rules)
    counters.update({f"masked/{kind}": times for kind, times in found.items()})
    return text
