"""`evaluate_vectors`: how good word vectors are: analogies, similarities, and neighbours to look at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from data.vectors.nearest import Nearest
from data.vectors.scores import read_analogies, read_pairs, score_analogies, score_pairs
from data.vectors.word_vectors import WordVectors
from pipeline.dag.folder import Folder
from pipeline.dag.stage import ExternalFile, Problem, Stage, StageContext, StageResult, circumstance, port

REPORT = "report.json"
ANALOGIES, SIMILARITIES = "analogies", "similarities"


@dataclass
class EvaluateVectors(Stage):
    """Scores vectors on files of questions, and lists the words nearest to some.

    Analogies are answered by 3CosAdd (Levy and Goldberg 2014), similarities compared by Spearman's rank correlation.
    """

    name: ClassVar[str] = "evaluate_vectors"
    produces: ClassVar[str] = "vectors_report"

    @dataclass
    class Inputs:
        vectors: str = port("vectors")
        "What to judge."

    inputs: Inputs = field(default_factory=Inputs)
    analogies: list[str] = circumstance([])
    "Files of `: SECTION` lines and lines of four words, as questions-words.txt; their names and bytes are identity."
    similarities: list[str] = circumstance([])
    "Files of two words and a score a line, as WordSim-353; their names and bytes are identity."
    words: list[str] = field(default_factory=list)
    "Whose neighbours are listed. Empty: those of the first num_words."
    num_words: int = 20
    "Words whose neighbours are listed where none is named; >= 0."
    num_neighbours: int = 10
    "Of each word; >= 1."

    def problems(self) -> list[Problem]:
        least = {"num_words": 0, "num_neighbours": 1}
        found = [
            Problem(
                name, f"{name} is {getattr(self, name)}", f"{bound} or more", f"set it to {bound} or more"
            )
            for name, bound in least.items()
            if getattr(self, name) < bound
        ]
        for kind in (ANALOGIES, SIMILARITIES):
            names = [Path(path).name for path in getattr(self, kind)]
            if len(set(names)) < len(names):
                found.append(Problem(kind, "two files have one name", "a name for each", "rename one"))
        return found

    def external_files(self) -> list[ExternalFile]:
        return [
            ExternalFile(f"{kind}/{Path(path).name}", str(Path(path).expanduser()))
            for kind in (ANALOGIES, SIMILARITIES)
            for path in getattr(self, kind)
        ]

    def run(self, context: StageContext) -> StageResult:
        texts: dict[str, dict[str, str]] = {ANALOGIES: {}, SIMILARITIES: {}}
        for each in self.external_files():
            kind, _, name = each.name.partition("/")
            texts[kind][name] = Path(each.path).read_text(encoding="utf-8")
        item = (context.one("vectors").folder, texts, self, context.output)
        (result,) = context.map(evaluate, {"vectors": item}, unit="models").values()
        return StageResult(result["counters"], result["metrics"])


def evaluate(
    folder: Folder, texts: dict[str, dict[str, str]], stage: EvaluateVectors, output: Folder
) -> dict[str, Any]:
    """Write the report; its counters and metrics."""
    nearest = Nearest(WordVectors.load(folder.local()))
    counters: dict[str, int] = {}
    metrics: dict[str, float] = {}
    by_file: dict[str, Any] = {}
    scorers = {ANALOGIES: partial(_analogies, nearest), SIMILARITIES: partial(_similarities, nearest)}
    for kind, scorer in scorers.items():
        for name, text in texts[kind].items():
            score, facts = scorer(name, text.splitlines())
            by_file[f"{kind}/{name}"] = facts | {"score": score}
            stem = Path(name).stem
            counters |= {f"{kind}/{stem}/asked": facts["asked"], f"{kind}/{stem}/unknown": facts["unknown"]}
            if score is not None:
                metrics[f"{'accuracy' if kind == ANALOGIES else 'spearman'}/{stem}"] = score
    words = stage.words or nearest.vectors.words[: stage.num_words]
    neighbours = {word: nearest.to_word(word, num=stage.num_neighbours) for word in words}
    counters["words"] = len(nearest.vectors.words)
    report = {"counters": counters, "metrics": metrics, "files": by_file}
    listed = {word: [each._asdict() for each in found] for word, found in neighbours.items()}
    output.write_json(REPORT, report | {"neighbours": listed})
    return {"counters": counters, "metrics": metrics}


def _analogies(nearest: Nearest, name: str, lines: Sequence[str]) -> tuple[float | None, dict[str, Any]]:
    found = score_analogies(nearest, read_analogies(lines, where=name))
    sections = {
        name: {"asked": asked, "right": found.right[name]} for name, asked in sorted(found.asked.items())
    }
    asked = sum(found.asked.values())
    return found.accuracy, {"asked": asked, "unknown": found.unknown, "sections": sections}


def _similarities(nearest: Nearest, name: str, lines: Sequence[str]) -> tuple[float | None, dict[str, Any]]:
    found = score_pairs(nearest, read_pairs(lines, where=name))
    return found.spearman, {"asked": found.pairs, "unknown": found.unknown}
