"""`tokenize`: documents or examples become token ids in Arrow files, one task per shard."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from data.documents import read_documents
from data.examples import Refused, read_examples, token_format, tokenize_example
from data.shards import TokenRow, TokenWriter
from data.tokenize import tokenize_documents
from data.tokenizer import Tokenizer
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, port
from pipeline.stages.sharding import check_not_empty, map_shards, renamed


@dataclass
class Tokenize(Stage):
    """Encodes every text; parts such as `train` pass through. Sequence length belongs to training, not here."""

    name: ClassVar[str] = "tokenize"
    produces: ClassVar[str] = "tokens"

    @dataclass
    class Inputs:
        documents: str = port("documents", "examples")
        "What to encode."
        tokenizer: str = port("tokenizer")
        "What to encode with; its hash is kept in every shard."

    inputs: Inputs = field(default_factory=Inputs)
    max_example_tokens: int | None = None
    "An example of more tokens is refused and counted, never cut; >= 2. None: any length. Documents have no limit."

    def problems(self) -> list[Problem]:
        if self.max_example_tokens is None or self.max_example_tokens > 1:
            return []
        what = f"max_example_tokens is {self.max_example_tokens}"
        return [
            Problem("max_example_tokens", what, "2 or more, or null", "set it to the model's max_seq_len")
        ]

    def run(self, context: StageContext) -> StageResult:
        given = context.one("documents")
        tokenizer = context.one("tokenizer").folder
        result = map_shards(context, given, tokenize_shard, tokenizer, given.kind, self.max_example_tokens)
        check_not_empty(result.counters["rows"], node=context.node, knob="inputs.documents")
        return result


def tokenize_shard(
    folder: Folder, name: str, output: Folder, tokenizer_folder: Folder, kind: str, max_tokens: int | None
) -> dict[str, int]:
    """Tokens of one shard of documents, or of examples with the mask of what is learned."""
    masked = kind == "examples"
    tokenizer = Tokenizer.load(tokenizer_folder.local())
    counters: Counter[str] = Counter({"rows": 0, "tokens": 0, "targets" if masked else "bytes": 0})
    with (
        folder.opening(name) as source,
        output.writing(renamed(name, "tokens")) as sink,
        TokenWriter(sink, token_format=token_format(tokenizer, has_loss_mask=masked)) as writer,
    ):
        rows = _example_rows if masked else _document_rows
        for row in rows(source, tokenizer, max_tokens):
            if isinstance(row, Refused):
                counters[f"refused/{row.reason.value}"] += 1
                continue
            writer.write(row)
            counters.update(rows=1, tokens=len(row.input_ids))
            if row.loss_mask is None:
                counters["bytes"] += row.num_bytes
            else:
                counters["targets"] += int(row.loss_mask.sum())
    return dict(counters)


def _document_rows(source: Any, tokenizer: Tokenizer, _max_tokens: int | None) -> Iterator[TokenRow]:
    return tokenize_documents(read_documents(source), tokenizer=tokenizer)


def _example_rows(source: Any, tokenizer: Tokenizer, max_tokens: int | None) -> Iterator[TokenRow | Refused]:
    for example in read_examples(source):
        yield tokenize_example(example, tokenizer=tokenizer, max_tokens=max_tokens)
