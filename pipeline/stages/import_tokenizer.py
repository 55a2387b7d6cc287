"""`import_tokenizer`: a tokenizer that others made becomes an artifact."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from data.tokenizer_import import ImportRules, read_tokenizer, tokenizer_files
from pipeline.dag.folder import Folder
from pipeline.dag.stage import (
    ExternalFile,
    Problem,
    Stage,
    StageContext,
    StageResult,
    below,
    circumstance,
    optional_port,
)
from pipeline.stages.ingest import FILES
from pipeline.stages.sharding import Shard, shards_of
from pipeline.stages.train_tokenizer import write_report


@dataclass
class ImportTokenizer(Stage):
    """Reads a Hugging Face folder, a tokenizer.json, GPT-2's two files, or ranks of tiktoken.

    Its identity is the names and bytes of these files; where they lie is circumstance.
    """

    name: ClassVar[str] = "import_tokenizer"
    produces: ClassVar[str] = "tokenizer"

    @dataclass
    class Inputs:
        documents: str = optional_port("documents")
        "What the report on it is made from; it learns nothing from them."

    inputs: Inputs = field(default_factory=Inputs)
    path: str = circumstance("")
    "A folder, a tokenizer.json, or a *.tiktoken file."
    rules: ImportRules = field(default_factory=ImportRules)
    "What its files leave open."

    def problems(self) -> list[Problem]:
        found = below("rules", self.rules.problems())
        if not self.path:
            allowed = "a folder, a tokenizer.json, or a *.tiktoken file"
            found.append(Problem("path", "no file is named", allowed, "set it, as in path=tokenizers/gpt2"))
        return found

    @cached_property
    def files(self) -> list[Path]:
        """The files it consists of; found once per command."""
        return tokenizer_files(Path(self.path).expanduser())

    def external_files(self) -> list[ExternalFile]:
        return [ExternalFile(file.name, str(file)) for file in self.files]

    def run(self, context: StageContext) -> StageResult:
        contents = {file.name: file.read_bytes() for file in self.files}
        sample = shards_of(context.inputs["documents"])
        item = (contents, self.rules, self.path, sample, context.output)
        (result,) = context.map(import_files, {"tokenizer": item}, unit="tokenizers").values()
        places = [
            {"name": file.name, "path": str(file), "bytes": len(contents[file.name])} for file in self.files
        ]
        context.output.write_json(FILES, places)
        return StageResult(result["counters"], result["metrics"])


def import_files(
    contents: dict[str, bytes],
    rules: ImportRules,
    where: str,
    sample: list[Shard],
    output: Folder,
) -> dict[str, Any]:
    """Write the tokenizer's files, and the report on it where there are documents."""
    tokenizer = read_tokenizer(contents, rules=rules, where=where)
    for name, content in tokenizer.files().items():
        output.write_bytes(name, content)
    metrics = write_report(tokenizer, sample, output) if sample else {}
    return {"counters": {"vocab_size": tokenizer.vocab_size}, "metrics": metrics}
