"""Word vectors on the terminal: words and what is nearest to each; scores."""

from typing import Any

from rich.console import Console
from rich.text import Text

from data.vectors.nearest import Nearest
from data.vectors.word_vectors import WordVectors
from pipeline.dag.store import Artifact
from pipeline.looking.page import fields, grid, heading, visible
from pipeline.looking.rows import Query
from pipeline.report import numbers
from pipeline.stages.evaluate_vectors import REPORT

NEIGHBOURS_SHOWN = 6


def vectors_facts(artifact: Artifact, query: Query) -> dict[str, Any]:
    """Words that hold `query.contains`, in their order, each with its count and its neighbours."""
    vectors = WordVectors.load(artifact.folder.local())
    nearest = Nearest(vectors)
    fitting = [row for row, word in enumerate(vectors.words) if query.contains in word]
    return {
        "num_words": len(vectors.words),
        "width": vectors.width,
        "num_buckets": len(vectors.subwords.ngrams) if vectors.subwords else 0,
        "num_matching": len(fitting),
        "words": [
            {
                "word": vectors.words[row],
                "count": int(vectors.counts[row]),
                "nearest": [
                    each._asdict() for each in nearest.to_word(vectors.words[row], num=NEIGHBOURS_SHOWN)
                ],
            }
            for row in fitting[query.offset : query.offset + query.limit]
        ],
    }


def print_vectors(facts: dict[str, Any], console: Console) -> None:
    console.print(fields({name: facts[name] for name in ("num_words", "width", "num_buckets")}))
    console.print(heading(f"words and what is nearest to them ({facts['num_matching']:,} in all)"))
    table = grid("  word", "count", "nearest", right=("count",))
    for each in facts["words"]:
        table.add_row(Text(f"  {visible(each['word'])}"), f"{each['count']:,}", _listed(each["nearest"]))
    console.print(table)


def vectors_report_facts(artifact: Artifact, query: Query) -> dict[str, Any]:
    """The report, with the neighbours of words that hold `query.contains`."""
    report: dict[str, Any] = artifact.folder.read_json(REPORT)
    fitting = [item for item in report["neighbours"].items() if query.contains in item[0]]
    return report | {"neighbours": dict(fitting[query.offset : query.offset + query.limit])}


def print_vectors_report(facts: dict[str, Any], console: Console) -> None:
    console.print(fields({name: numbers.metric(value) for name, value in facts["metrics"].items()}))
    console.print(fields({name: f"{count:,}" for name, count in facts["counters"].items()}))
    table = grid("  word", "nearest")
    for word, nearest in facts["neighbours"].items():
        table.add_row(Text(f"  {visible(word)}"), _listed(nearest))
    console.print(table)


def _listed(nearest: list[dict[str, Any]]) -> Text:
    return Text(visible(", ".join(f"{each['word']} {each['cosine']:.2f}" for each in nearest)))
