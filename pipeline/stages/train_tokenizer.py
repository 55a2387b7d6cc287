"""`tokenizer`: a vocabulary learned from documents."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from data.errors import DataError
from data.sampling import SampleRules
from data.tokenizer import Tokenizer
from data.tokenizer_report import REPORT_FILE, SAMPLE, Report
from data.tokenizer_training import TokenizerRules, train_tokenizer
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, below, one_or_many_ports
from pipeline.stages.sampling import Sampled
from pipeline.stages.sharding import Shard, shards_of


@dataclass
class TrainTokenizer(Stage):
    """Learns a tokenizer: byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909), WordPiece, unigram or words."""

    name: ClassVar[str] = "tokenizer"
    produces: ClassVar[str] = "tokenizer"

    @dataclass
    class Inputs:
        documents: Any = one_or_many_ports("documents")
        "What it learns from, a node or a list of nodes; usually the train part of a split."

    inputs: Inputs = field(default_factory=Inputs)
    rules: TokenizerRules = field(default_factory=TokenizerRules)
    "Kind, size, splitting and control tokens."
    sample: SampleRules = field(default_factory=SampleRules)
    "Which documents it learns from."

    def problems(self) -> list[Problem]:
        return below("rules", self.rules.problems()) + below("sample", self.sample.problems())

    def run(self, context: StageContext) -> StageResult:
        work = (shards_of(context.inputs["documents"]), self.rules, self.sample, context.output)
        context.progress(0, 1, "tokenizers", "learning a vocabulary")
        (result,) = context.map(learn, {"tokenizer": work}, unit="tokenizers", num_cpus=2).values()
        if not result["counters"]["bytes"]:
            raise DataError(
                "there is no text to learn a tokenizer from",
                where=f"stages.{context.node}.inputs.documents",
                allowed="at least one document",
                do="look at what the stages before it dropped: headrace show NODE",
            )
        return StageResult(result["counters"], result["metrics"])


def learn(shards: list[Shard], rules: TokenizerRules, sample: SampleRules, output: Folder) -> dict[str, Any]:
    """Train on a sample of all shards; write the tokenizer's files and the report on it."""
    texts = Sampled(shards, sample)
    tokenizer = train_tokenizer(texts, rules=rules)
    for name, content in tokenizer.files().items():
        output.write_bytes(name, content)
    counters = {"vocab_size": tokenizer.vocab_size, "bytes": texts.num_bytes}
    return {"counters": counters, "metrics": write_report(tokenizer, shards, output)}


def write_report(tokenizer: Tokenizer, shards: list[Shard], output: Folder) -> dict[str, float]:
    """Put the report beside the tokenizer; its main figures."""
    report = Report(tokenizer)
    report.add(Sampled(shards, SAMPLE).batches())
    facts = report.facts()
    output.write_json(REPORT_FILE, facts)
    sample = facts["sample"]
    return {name: sample[name] for name in ("bytes_per_token", "unknown_fraction")}
