"""FineWeb's rules on the same documents: `data.filters` against datatrove's filters run as its pipeline runs them.

One process each, without the language, for which datatrove downloads a model. Words: datatrove's own tokenizers for
English need spaCy, so it is given ours, which is the fastest it can have (`shared words`), and NLTK's Penn Treebank
tokenizer with datatrove's own fallback for sentences (`treebank words`), which is nearest to what made FineWeb.
Target: twice the speed, with `shared words` the same documents kept with the same text, and every difference listed.
"""

import json
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.word_tokenizers import WhitespaceTokenizer, WordTokenizer
from loguru import logger
from measure import Contender, arguments, compare, publish
from nltk.tokenize import NLTKWordTokenizer

from data.filters import FilterRules, Judge
from data.filters.words import pieces_of, sentence_bounds
from pipeline.config import compose_recipe

RULES = [
    "+rules@stages.clean.rules=fineweb",
    "stages.clean.rules.language.languages=[]",
    "stages.clean.rules.language.min_score=null",
]
SPEECH_PARAGRAPHS = 8


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


def differences(texts: Sequence[str], rules: FilterRules, peer: Peer, shown: int) -> dict[str, object]:
    """Decisions that differ, by the two reasons, with the beginnings of some of the texts."""
    mine, theirs = ours(texts, rules), peer.run(texts)
    differ = [number for number, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b]
    kinds = Counter(
        (our_reason(texts[number], rules), peer.reason(texts[number]), _what(mine[number], theirs[number]))
        for number in differ
    )
    print(f"  kept: ours {_kept(mine)}, datatrove {_kept(theirs)}; differ: {len(differ)} of {len(texts)}")
    for (a, b, what), times in kinds.most_common():
        print(f"    {times:>5}  {what}: ours {a}, datatrove {b}")
    for number in differ[:shown]:
        print(f"    {texts[number][:90]!r}")
    return {"documents": len(texts), "differ": len(differ), "kept": [_kept(mine), _kept(theirs)]}


def _what(mine: str | None, theirs: str | None) -> str:
    if mine is not None and theirs is not None:
        return "text"
    return "kept by one" if (mine is None) != (theirs is None) else "reason"


def _kept(texts: Sequence[str | None]) -> int:
    return sum(text is not None for text in texts)


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        help="of text (.txt .rst .md .py, Translation-en); default: the stdlib",
    )
    parser.add_argument(
        "--limit", type=int, default=4000, help="documents at most, spread over all (default 4000)"
    )
    parser.add_argument("--shown", type=int, default=5, help="texts shown of those that differ (default 5)")
    options = parser.parse_args()
    logger.remove()
    rules: Any = compose_recipe(RULES).config.stages["clean"]
    texts = documents(options.folders or [Path(sysconfig.get_path("stdlib")) / "asyncio"])
    texts = texts[:: max(1, len(texts) // options.limit)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    contenders: dict[str, Contender] = {"headrace": _timed(lambda: ours(texts, rules.rules), megabytes)}
    facts = {}
    for name, words in (("shared words", SharedWords()), ("treebank words", TreebankWords())):
        peer = Peer(words)
        print(f"datatrove with {name}:")
        facts[name] = differences(texts, rules.rules, peer, options.shown)
        contenders[f"datatrove, {name}"] = _timed(lambda peer=peer: peer.run(texts), megabytes)
    title = f"FineWeb's rules on {len(texts)} documents"
    result = compare(
        title,
        contenders,
        unit="MB",
        repeats=options.repeats,
        least_ratios={"datatrove, shared words": 2},
        differences=json.dumps(facts),
    )
    return 0 if publish([result], json_file=options.json) else 1


def _timed(function: Callable[[], object], megabytes: float) -> Contender:
    def run() -> float:
        function()
        return megabytes

    return run


if __name__ == "__main__":
    sys.exit(main())
