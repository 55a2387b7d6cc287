"""`tokenizer`: a byte-level BPE vocabulary learned from documents."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from data.documents import document_batches
from data.errors import DataError
from data.tokenizer_training import TokenizerRules, train_tokenizer
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, port
from pipeline.stages.sharding import below, shard_names


@dataclass
class TrainTokenizer(Stage):
    """Learns a byte-level BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909; bytes as in GPT-2)."""

    name: ClassVar[str] = "tokenizer"
    produces: ClassVar[str] = "tokenizer"

    @dataclass
    class Inputs:
        documents: str = port("documents")
        "What it learns from; usually the train part of a split."

    inputs: Inputs = field(default_factory=Inputs)
    rules: TokenizerRules = field(default_factory=TokenizerRules)
    "Size, splitting and control tokens."

    def problems(self) -> list[Problem]:
        return below("rules", self.rules.problems())

    def run(self, context: StageContext) -> StageResult:
        given = context.one("documents")
        work = (given.folder, shard_names(given), self.rules, context.output)
        context.progress(0, 1, "tokenizers", "learning merges")
        (result,) = context.map(learn, {"tokenizer": work}, unit="tokenizers", num_cpus=2).values()
        if not result["bytes"]:
            raise DataError(
                "there is no text to learn a tokenizer from",
                where=f"stages.{context.node}.inputs.documents",
                allowed="at least one document",
                do="look at what the stages before it dropped: headrace show NODE",
            )
        return StageResult({"vocab_size": result["vocab_size"], "bytes": result["bytes"]})


def learn(folder: Folder, names: list[str], rules: TokenizerRules, output: Folder) -> dict[str, int]:
    """Train on all shards and write the tokenizer's files."""
    seen = {"bytes": 0}

    def texts() -> Iterator[str]:
        for name in names:
            with folder.opening(name) as source:
                for batch in document_batches(source):
                    for text in batch.column("text").to_pylist():
                        seen["bytes"] += len(text.encode())
                        yield text

    tokenizer = train_tokenizer(texts(), rules=rules)
    for name, content in tokenizer.files().items():
        output.write_bytes(name, content)
    return {"vocab_size": tokenizer.vocab_size, "bytes": seen["bytes"]}
