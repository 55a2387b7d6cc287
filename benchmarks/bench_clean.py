"""FineWeb's rules on the same documents: `data.filters` against datatrove's filters run as its pipeline runs them.

One process each, without the language, for which datatrove downloads a model. Documents are measured by their length,
for what a short one costs is mostly what any one costs. Words: datatrove's own tokenizers for English need spaCy, so it
is given ours, which is the fastest it can have (`shared words`); `--words treebank` gives it NLTK's Penn Treebank
tokenizer with datatrove's own fallback for sentences, which is nearest to what made FineWeb.

Limit: twice the speed at every length, and with shared words the same documents kept with the same text, save where a
difference is explained. Each that differs is listed, with who is right.
"""

import argparse
import ast
import sys
import sysconfig
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.text import PUNCTUATION_SET
from datatrove.utils.word_tokenizers import WhitespaceTokenizer, WordTokenizer
from loguru import logger
from measure import Contender, Limit, Result, arguments, compare, publish
from nltk.tokenize import NLTKWordTokenizer

from data.filters import FilterRules, Judge
from data.filters.words import WORD, Vocabulary, pieces_of, sentence_bounds
from pipeline.config import compose_recipe

RULES = [
    "+rules@stages.clean.rules=fineweb",
    "stages.clean.rules.language.languages=[]",
    "stages.clean.rules.language.min_score=null",
]
SPEECH_PARAGRAPHS = 8
LENGTHS = (100, 500, 2500)
"Characters: documents of up to so many are measured together."
LEAST_RATIO = 2
UNEXPLAINED = "not explained"


class SharedWords(WordTokenizer):
    """Our words and sentences, for datatrove."""

    def word_tokenize(self, text: str) -> list[str]:
        return pieces_of(text)

    def sent_tokenize(self, text: str) -> list[str]:
        return [text[start:end] for start, end in self.span_tokenize(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return sentence_bounds(text)


class TreebankWords(WhitespaceTokenizer):
    """NLTK's words; sentences as datatrove's fallback finds them, for NLTK's model of them is a download."""

    def __init__(self) -> None:
        super().__init__()
        self._words = NLTKWordTokenizer()

    def word_tokenize(self, text: str) -> list[str]:
        """By sentences, as `nltk.word_tokenize` does: only the full stop at the end of one is apart from its word."""
        sentences = (text[start:end] for start, end in sentence_bounds(text))
        return [word for sentence in sentences for word in self._words.tokenize(sentence)]


WORDS: dict[str, Callable[[], WordTokenizer]] = {"shared": SharedWords, "treebank": TreebankWords}


class Peer:
    """datatrove's filters in FineWeb's order."""

    def __init__(self, words: WordTokenizer) -> None:
        self.steps = [
            GopherRepetitionFilter(language=words),
            GopherQualityFilter(language=words),
            C4QualityFilter(filter_no_terminal_punct=False, language=words),
            FineWebQualityFilter(language=words),
        ]

    def run(self, texts: Sequence[str]) -> list[str | None]:
        """What is left of each text; None where it is dropped."""
        found: list[str | None] = [None] * len(texts)
        documents: Any = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
        for step in self.steps:
            documents = step.run(documents)
        for document in documents:
            found[int(document.id)] = document.text
        return found

    def reason(self, text: str) -> str:
        document = Document(text=text, id="0")
        for step in self.steps:
            kept = step.filter(document)
            if kept is not True:
                return str(kept[1])
        return "kept"


def ours(texts: Sequence[str], rules: FilterRules) -> list[str | None]:
    judge = Judge(rules)
    verdicts = map(judge.judge, texts)
    return [None if verdict.reason else verdict.text for verdict in verdicts]


def our_reason(text: str, rules: FilterRules) -> str:
    reason = Judge(rules).judge(text).reason
    return reason.value if reason else "kept"


def documents(folders: Sequence[Path]) -> list[str]:
    """Files of the folders, whole; text files also in parts of some paragraphs; a Debian index by its descriptions."""
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        text = path.read_text(errors="replace") if path.suffix in {".txt", ".rst", ".py", ".md"} else ""
        if "Translation-en" in path.name:
            found += _descriptions(path.read_text(errors="replace"))
        elif text.strip():
            found.append(text)
            parts = text.split("\n\n") if path.suffix == ".txt" else []
            found += [
                "\n\n".join(parts[at : at + SPEECH_PARAGRAPHS])
                for at in range(0, len(parts), SPEECH_PARAGRAPHS)
            ]
    return [text for text in found if text.strip()]


def _descriptions(index: str) -> list[str]:
    """The long descriptions: lines begin with a space, and a full stop stands for a blank line."""
    found = []
    for entry in index.split("\n\n"):
        lines = entry.partition("\nDescription-en: ")[2].split("\n")[1:]
        found.append("\n".join("" if line == " ." else line[1:] for line in lines))
    return found


def library() -> list[str]:
    """What every machine has: the docstrings of Python's library, the topics of its `help`, the files of asyncio."""
    folder, found = Path(sysconfig.get_path("stdlib")), list(topics.values())
    for path in sorted(folder.glob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        owners = [each for each in nodes if isinstance(each, ast.Module | ast.ClassDef | ast.FunctionDef)]
        found += [text for text in map(ast.get_docstring, owners) if text]
    return [text for text in [*found, *documents([folder / "asyncio"])] if text.strip()]


def differences(texts: Sequence[str], rules: FilterRules, peer: Peer, shown: int) -> dict[str, int]:
    """Decisions that differ, by the two reasons and who is right, with the beginnings of some of the texts."""
    mine, theirs = ours(texts, rules), peer.run(texts)
    differ = [number for number, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b]
    shared = Peer(SharedWords())
    kinds = Counter(
        (our_reason(texts[at], rules), peer.reason(texts[at]), explanation(texts[at], mine[at], shared))
        for at in differ
    )
    print(f"  kept: ours {_kept(mine)}, datatrove {_kept(theirs)}; differ: {len(differ)} of {len(texts)}")
    for (a, b, why), times in kinds.most_common():
        print(f"    {times:>5}  ours {a}, datatrove {b}: {why}")
    for number in differ[:shown]:
        print(f"    {texts[number][:90]!r}")
    unexplained = sum(times for (*_, why), times in kinds.items() if why == UNEXPLAINED)
    return {
        "kept": _kept(mine),
        "kept_by_peer": _kept(theirs),
        "differ": len(differ),
        UNEXPLAINED: unexplained,
    }


def explanation(text: str, mine: str | None, shared: Peer) -> str:
    """Why the two differ, as far as it can be shown."""
    if shared.run([text]) == [mine]:
        return "the words differ; of ours datatrove says as we do"
    pieces = Vocabulary(splits=True).read(text)
    theirs = [any(sign not in PUNCTUATION_SET for sign in piece) for piece in pieces]
    marks = {
        piece for piece, kind, word in zip(pieces, pieces.kinds, theirs, strict=True) if word > kind & WORD
    }
    if marks and all(unicodedata.category(sign)[0] in "PS" for sign in "".join(marks)):
        return f"words to datatrove: {' '.join(sorted(marks))}; Unicode's categories P and S: we are right"
    return UNEXPLAINED


def _kept(texts: Sequence[str | None]) -> int:
    return sum(text is not None for text in texts)


def measured(name: str, texts: Sequence[str], rules: FilterRules, options: argparse.Namespace) -> Result:
    """Documents of one length: their differences, then the time."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    contenders: dict[str, Contender] = {"headrace": _timed(lambda: ours(texts, rules), megabytes)}
    facts: dict[str, Any] = {}
    for words in options.words:
        peer = Peer(WORDS[words]())
        print(f"{name}, datatrove with {words} words:")
        facts[words] = differences(texts, rules, peer, options.shown)
        contenders[f"datatrove, {words} words"] = _timed(lambda peer=peer: peer.run(texts), megabytes)
    limits = dict.fromkeys(list(contenders)[1:], LEAST_RATIO)
    result = compare(name, contenders, unit="MB", repeats=options.repeats, least_ratios=limits, **facts)
    unexplained = sum(found[UNEXPLAINED] for found in facts.values())
    result.limits.append(Limit("differences that are not explained", unexplained, most=0))
    return result


def _timed(function: Callable[[], object], megabytes: float) -> Contender:
    def run() -> float:
        function()
        return megabytes

    return run


def _options() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        help="of text (.txt .rst .md .py, Translation-en); default: docstrings, topics and code of Python",
    )
    parser.add_argument("--limit", type=int, default=1000, help="documents of each length (default 1000)")
    parser.add_argument(
        "--words", nargs="+", choices=WORDS, default=["shared"], help="datatrove's (default shared)"
    )
    parser.add_argument("--shown", type=int, default=5, help="texts shown of those that differ (default 5)")
    return parser.parse_args()


def main() -> int:
    options = _options()
    logger.remove()
    rules: Any = compose_recipe(RULES).config.stages["clean"]
    texts, results = documents(options.folders) or library(), []
    for low, high in pairwise([0, *LENGTHS, sys.maxsize]):
        of_length = [text for text in texts if low < len(text) <= high]
        of_length = of_length[:: max(1, len(of_length) // options.limit)][: options.limit]
        if of_length:
            mean = sum(map(len, of_length)) // len(of_length)
            name = f"FineWeb's rules on {len(of_length)} documents of {mean} characters"
            results.append(measured(name, of_length, rules.rules, options))
    return 0 if publish(results, json_file=options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
