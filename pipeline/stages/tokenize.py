"""`tokenize`: documents or examples become token ids in Arrow files, one task per shard, several per long shard."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.compute as pc

from data.documents import document_batches
from data.examples import Refused, read_examples, token_format, tokenize_example
from data.sampling import SampleRules
from data.shards import TokenRow, TokenWriter, read_tokens
from data.tokenize import Span, joined, one_thread, spans_of, tokenize_documents, tokenize_spans
from data.tokenizer import Tokenizer
from data.tokenizer_report import CHARACTERS_READ
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Input, Problem, Stage, StageContext, StageResult, port
from pipeline.stages.sampling import Sampled
from pipeline.stages.sharding import check_not_empty, renamed, shard_names, total

PART_BYTES = 16 << 20
"Of a shard, about, that one task encodes; a shard of more than twice as much is encoded in parts."
FOLLOWED_BYTES = 16 * PART_BYTES
"Where another node reads along, only a shard of more is encoded in parts, since those come before all others."
CHECKED_BYTES = 1 << 20
"Of text, about, on which the fast encoder is held against the reference before anything is encoded."
CHECKS = 8
"Tasks that share this out at most, so that workers start and load the tokenizer side by side."
ENCODER = "logs/encoder.json"


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

    def announced(self, inputs: Mapping[str, list[Input]]) -> tuple[str, ...]:
        (given,) = inputs["documents"]
        return tuple(renamed(name, "tokens") for name in shard_names(given))

    def run(self, context: StageContext) -> StageResult:
        given = context.one("documents")
        with_ = Encoding(context.one("tokenizer").folder)
        found = _agreed(list(context.map(check_encoder, _checks(given, with_), unit="checks").values()))
        context.output.write_json(ENCODER, found)
        with_ = Encoding(with_.folder, found["encoder"], found["can_cut"])
        result = self._encode(context, given, with_)
        check_not_empty(
            result.counters["rows"], node=context.node, knob="inputs.documents", counters=result.counters
        )
        return StageResult(result.counters, {"is_fast_encoder": float(found["encoder"] == "tiktoken")})

    def _encode(self, context: StageContext, given: Input, with_: "Encoding") -> StageResult:
        """The longest tasks first, so that none is left over when the others are done.

        Where another node reads along, it gets its shards in order: those of small parts such as `validation` first.
        """
        sizes = _sizes(given)
        longest = FOLLOWED_BYTES if context.is_followed else 2 * PART_BYTES
        long = [name for name, size in sizes.items() if size > longest] if _has_parts(given, with_) else []
        surveys = context.map(survey_shard, {name: (given.folder, name) for name in long}) if long else {}
        groups = {
            name: spans_of(each["bytes"], each["rows"], num_bytes=PART_BYTES)
            for name, each in surveys.items()
        }
        parts = {
            _part(name, number): (given.folder, name, spans, _part(name, number), context.scratch, with_)
            for name, spans_of_parts in groups.items()
            for number, spans in enumerate(spans_of_parts)
        }
        joins = {
            name: (context.scratch, name, [span[0].is_continued for span in spans], context.output, with_)
            for name, spans in groups.items()
        }
        whole = {
            name: (given.folder, name, context.output, with_, given.kind, self.max_example_tokens)
            for name in (_for_followers(sizes) if context.is_followed else _longest_first(sizes))
            if name not in groups
        }
        counters: list[dict[str, int]] = []
        if groups:
            context.map(tokenize_part, parts, unit="parts")
            counters += context.map(join_parts, joins).values()
        counters += context.map(tokenize_shard, whole).values()
        return StageResult(total(counters))


@dataclass(frozen=True)
class Encoding:
    """What tasks encode with."""

    folder: Folder
    "The tokenizer's artifact."
    encoder: str = ""
    "tiktoken or tokenizers, as the check found; empty: not checked yet."
    can_cut: bool = False

    def open(self) -> Tokenizer:
        tokenizer = _opened(str(self.folder.local()), self.encoder)
        tokenizer.can_cut = self.can_cut
        return tokenizer


@lru_cache(maxsize=2)
def _opened(path: str, encoder: str) -> Tokenizer:
    """Once in each worker: to read a vocabulary takes as long as to encode megabytes. Artifacts never change."""
    return Tokenizer.load(Path(path), encoder=encoder)


def check_encoder(folder: Folder, names: list[str], max_bytes: int, with_: Encoding) -> dict[str, Any]:
    """Which encoder gives the reference's ids on a sample of some shards."""
    tokenizer, num_bytes = _opened(str(with_.folder.local()), ""), 0
    for batch in Sampled([(folder, name) for name in names], SampleRules(max_bytes=max_bytes)).batches():
        texts = [text[:CHARACTERS_READ] for text in batch.column("text").to_pylist()]
        num_bytes += sum(len(text.encode()) for text in texts)
        if not tokenizer.verify(texts):
            _opened.cache_clear()  # it is no longer what was opened: the next check begins anew
    found = {"encoder": tokenizer.encoder, "note": tokenizer.encoder_note, "can_cut": tokenizer.can_cut}
    return found | {"checked_bytes": num_bytes}


def _checks(given: Input, with_: Encoding) -> dict[str, tuple[Any, ...]]:
    names = shard_names(given) if given.kind == "documents" else []
    parts = [names[first::CHECKS] for first in range(min(CHECKS, max(1, len(names))))]
    max_bytes = CHECKED_BYTES // len(parts)
    return {f"{number}": (given.folder, part, max_bytes, with_) for number, part in enumerate(parts)}


def _agreed(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What the first check says that found a difference; any of them where none has."""
    worst = min(found, key=lambda each: (each["can_cut"], each["encoder"] == "tiktoken"))
    return worst | {"checked_bytes": sum(each["checked_bytes"] for each in found)}


def survey_shard(folder: Folder, name: str) -> dict[str, list[int]]:
    """Bytes of text and documents in each record batch."""
    with folder.opening(name) as source:
        found = [
            (pc.sum(pc.binary_length(batch.column("text"))).as_py(), batch.num_rows)
            for batch in document_batches(source)
        ]
    return {"bytes": [size for size, _ in found], "rows": [num_rows for _, num_rows in found]}


def tokenize_part(
    folder: Folder, name: str, spans: list[Span], part: str, scratch: Folder, with_: Encoding
) -> dict[str, int]:
    """Tokens of some spans of a long shard, to be joined."""
    tokenizer = with_.open()
    with (
        one_thread(),
        folder.opening(name) as source,
        scratch.writing(part) as sink,
        TokenWriter(sink, token_format=token_format(tokenizer, has_loss_mask=False)) as writer,
    ):
        for row in tokenize_spans(source, spans, tokenizer=tokenizer):
            writer.write(row)
    return {"rows": writer.num_rows}


def join_parts(
    scratch: Folder, name: str, is_continued: list[bool], output: Folder, with_: Encoding
) -> dict[str, int]:
    """One shard out of its parts: the bytes that one task alone would have written."""
    tokenizer = with_.open()

    def rows() -> Iterator[tuple[TokenRow, bool]]:
        for number, continues in enumerate(is_continued):
            with scratch.opening(_part(name, number)) as source:
                for place, row in enumerate(read_tokens(source)):
                    yield row, continues and place == 0

    with (
        output.writing(renamed(name, "tokens")) as sink,
        TokenWriter(sink, token_format=token_format(tokenizer, has_loss_mask=False)) as writer,
    ):
        return _written(joined(rows()), writer, "bytes")


def tokenize_shard(
    folder: Folder, name: str, output: Folder, with_: Encoding, kind: str, max_tokens: int | None
) -> dict[str, int]:
    """Tokens of one shard of documents, or of examples with the mask of what is learned."""
    masked = kind == "examples"
    tokenizer = with_.open()
    with (
        one_thread(),
        folder.opening(name) as source,
        output.writing(renamed(name, "tokens")) as sink,
        TokenWriter(sink, token_format=token_format(tokenizer, has_loss_mask=masked)) as writer,
    ):
        if masked:
            return _written(_example_rows(source, tokenizer, max_tokens), writer, "targets")
        rows = tokenize_documents(document_batches(source), tokenizer=tokenizer)
        return _written(rows, writer, "bytes")


def _written(rows: Iterator[TokenRow | Refused], writer: TokenWriter, measure: str) -> dict[str, int]:
    """Write the rows and count them; `measure` is what is counted beside rows and tokens: bytes or targets."""
    refused: Counter[str] = Counter()
    measured = 0
    for row in rows:
        if isinstance(row, Refused):
            refused[f"refused/{row.reason.value}"] += 1
            continue
        writer.write(row)
        measured += row.num_bytes if row.loss_mask is None else int(row.loss_mask.sum())
    return {"rows": writer.num_rows, "tokens": writer.num_tokens, measure: measured} | refused


def _example_rows(source: Any, tokenizer: Tokenizer, max_tokens: int | None) -> Iterator[TokenRow | Refused]:
    for example in read_examples(source):
        yield tokenize_example(example, tokenizer=tokenizer, max_tokens=max_tokens)


def _sizes(given: Input) -> dict[str, int]:
    """Bytes of each shard of the input, by name."""
    sizes = {file.name: file.size for file in given.manifest.files}
    return {name: sizes[f"{given.part}/{name}" if given.part else name] for name in shard_names(given)}


def _longest_first(sizes: Mapping[str, int]) -> list[str]:
    return sorted(sizes, key=lambda name: (-sizes[name], name))


def _for_followers(sizes: Mapping[str, int]) -> list[str]:
    """Shards by name; those of the smallest part first, since followers open small parts, held out, as a whole."""
    of_parts: Counter[str] = Counter()
    for name, size in sizes.items():
        of_parts[name.rpartition("/")[0]] += size
    return sorted(sizes, key=lambda name: (of_parts[name.rpartition("/")[0]], name))


def _has_parts(given: Input, with_: Encoding) -> bool:
    return given.kind == "documents" and with_.can_cut


def _part(name: str, number: int) -> str:
    return f"{name}.{number:05d}"
