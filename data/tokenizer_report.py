"""What a tokenizer makes of a sample of its corpus: how short texts become, and what it does not know."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from data.sampling import SOURCE, SampleRules, groups_of
from data.scripts import main_script
from data.tokenizer import Tokenizer

REPORT_FILE = "logs/report.json"
"Where it lies in a tokenizer's artifact: beside what it is, and not of it."
SAMPLE = SampleRules(max_bytes=4 << 20)
"What is looked at, unless one says otherwise."
CHARACTERS_READ = 1 << 18  # of each document
LONGEST_SHOWN = 20
LINES_SHOWN = 8
CHARACTERS_SHOWN = 120


@dataclass
class Tally:
    """Sums over some texts."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    unknown: int = 0

    def add(self, *, num_bytes: int, num_tokens: int, num_unknown: int) -> None:
        self.documents += 1
        self.bytes += num_bytes
        self.tokens += num_tokens
        self.unknown += num_unknown

    def facts(self) -> dict[str, float]:
        tokens = max(1, self.tokens)
        rates = {"bytes_per_token": self.bytes / tokens, "unknown_fraction": self.unknown / tokens}
        counts = {"documents": self.documents, "bytes": self.bytes, "tokens": self.tokens}
        return counts | {name: round(value, 6) for name, value in rates.items()}


@dataclass
class Report:
    """Gathers what `facts` tells, a record batch at a time."""

    tokenizer: Tokenizer
    all: Tally = field(default_factory=Tally)
    sources: dict[str, Tally] = field(default_factory=dict)
    scripts: dict[str, Tally] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Documents of the sample; the encoder is held against the reference on each."""
        for batch in batches:
            texts = [text[:CHARACTERS_READ] for text in batch.column("text").to_pylist()]
            self.tokenizer.verify(texts)
            encoded = self.tokenizer.encode_batch(texts)
            for text, ids, source in zip(texts, encoded, groups_of(batch, by=SOURCE), strict=True):
                self._count(text, ids, source)

    def facts(self) -> dict[str, Any]:
        """What JSON can hold, in a fixed order."""
        tokenizer = self.tokenizer
        return {
            "hash": tokenizer.hash,
            "vocab_size": tokenizer.vocab_size,
            "encoder": tokenizer.encoder,
            "encoder_note": tokenizer.encoder_note,
            "control_tokens": tokenizer.special_ids,
            "control_tokens_that_text_spells": tokenizer.spelled_control_tokens(),
            "sample": self.all.facts(),
            "used_fraction": round(len(self.used) / tokenizer.vocab_size, 6),
            "by_source": {name: self.sources[name].facts() for name in sorted(self.sources)},
            "by_script": {name: self.scripts[name].facts() for name in sorted(self.scripts)},
            "longest_tokens": self._longest(),
            "examples": [self._pieces(line) for line in self.lines],
        }

    def _count(self, text: str, ids: Any, source: str) -> None:
        unknown = 0 if self.tokenizer.unk_id is None else int((ids == self.tokenizer.unk_id).sum())
        sizes = {"num_bytes": len(text.encode()), "num_tokens": len(ids), "num_unknown": unknown}
        for tally in (
            self.all,
            self.sources.setdefault(source, Tally()),
            self.scripts.setdefault(main_script(text), Tally()),
        ):
            tally.add(**sizes)
        self.used.update(np.unique(ids).tolist())
        if len(self.lines) < LINES_SHOWN and (line := _first_line(text)):
            self.lines.append(line)

    def _longest(self) -> list[str]:
        special = set(self.tokenizer.special_ids.values())
        texts = [
            self.tokenizer.decode([id_]) for id_ in range(self.tokenizer.vocab_size) if id_ not in special
        ]
        return sorted(texts, key=lambda text: (-len(text), text))[:LONGEST_SHOWN]

    def _pieces(self, line: str) -> list[str]:
        return [self.tokenizer.decode([id_]) for id_ in self.tokenizer.encode(line).tolist()]


def _first_line(text: str) -> str:
    """The first line of some length."""
    return next((line[:CHARACTERS_SHOWN] for line in text.splitlines() if len(line.split()) > 2), "")  # noqa: PLR2004
