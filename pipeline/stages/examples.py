"""`examples`: supervised prompt-response pairs out of documents."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from data.documents import Document, read_documents
from data.example_sources import ExampleRules, from_fields, from_python_source
from data.examples import Example, ExampleCounters, ExampleWriter, Refused
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, below, port
from pipeline.stages.sharding import Naming, check_not_empty, map_shards, renamed


class Source(Enum):
    """Where pairs come from."""

    fields = "fields"
    "Two fields of each row."
    python_docstrings = "python_docstrings"
    "Each function of a Python file: its source, and the first line of its docstring."


@dataclass
class Examples(Stage):
    """Makes examples. Candidates = examples + the sum of refused, by reason."""

    name: ClassVar[str] = "examples"
    produces: ClassVar[str] = "examples"

    @dataclass
    class Inputs:
        documents: str = port("documents")
        "Rows or source files; parts pass through."

    inputs: Inputs = field(default_factory=Inputs)
    source: Source = Source.fields
    "fields: two fields of each row; python_docstrings: functions and their summaries."
    prompt_field: str = "prompt"
    "Field of the prompt, or `text` for the document's text; with source=fields."
    response_field: str = "response"
    "Field of the response; with source=fields."
    rules: ExampleRules = field(default_factory=ExampleRules)
    "How a prompt is written."

    def problems(self) -> list[Problem]:
        return below("rules", self.rules.problems())

    def run(self, context: StageContext) -> StageResult:
        result = map_shards(context, context.one("documents"), make_examples, self)
        counters = result.counters
        refused = sum(n for name, n in counters.items() if name.startswith("refused/"))
        assert counters["candidates"] == counters["examples"] + refused, counters
        check_not_empty(counters["examples"], node=context.node, knob="source", counters=counters)
        return result


def make_examples(folder: Folder, name: str, output: Folder, settings: Examples) -> dict[str, int]:
    """The examples of one shard of documents."""
    counters = ExampleCounters()
    target = renamed(name, "examples")
    with folder.opening(name) as source, output.writing(target) as sink, ExampleWriter(sink) as writer:
        for document in read_documents(source):
            with Naming(document.id):
                outcomes = list(_outcomes(document, settings))
            for outcome in outcomes:
                counters.add(outcome)
                if isinstance(outcome, Example):
                    writer.write(outcome)
    return counters.as_dict()


def _outcomes(document: Document, settings: Examples) -> Iterator[Example | Refused]:
    if settings.source is Source.python_docstrings:
        yield from from_python_source(document, rules=settings.rules)
        return
    yield from_fields(
        document,
        prompt_field=settings.prompt_field,
        response_field=settings.response_field,
        rules=settings.rules,
    )
