"""FineWeb's rules decide as the code that made FineWeb, for the same reason, and leave the same text."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from data.filters import DropReason, Judge
from data.filters.words import pieces_of, sentence_bounds
from pipeline.config import compose_recipe

pytest.importorskip("datatrove")

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.word_tokenizers import WordTokenizer

REASONS = {
    "dup_para_frac": DropReason.DUPLICATE_PARAGRAPHS,
    "dup_para_char_frac": DropReason.DUPLICATE_PARAGRAPH_CHARACTERS,
    "dup_line_frac": DropReason.DUPLICATE_LINES,
    "dup_line_char_frac": DropReason.DUPLICATE_LINE_CHARACTERS,
    **{f"top_{n}_gram": DropReason(f"top_{n}gram") for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": DropReason(f"duplicate_{n}grams") for n in range(5, 11)},
    "gopher_short_doc": DropReason.FEW_WORDS,
    "gopher_long_doc": DropReason.MANY_WORDS,
    "gopher_below_avg_threshold": DropReason.SHORT_WORDS,
    "gopher_above_avg_threshold": DropReason.LONG_WORDS,
    "gopher_too_many_hashes": DropReason.HASHES,
    "gopher_too_many_ellipsis": DropReason.ELLIPSIS_MARKS,
    "gopher_too_many_bullets": DropReason.BULLETS,
    "gopher_too_many_end_ellipsis": DropReason.ELLIPSES,
    "gopher_below_alpha_threshold": DropReason.FEW_ALPHABETIC_WORDS,
    "gopher_enough_stop_words": DropReason.FEW_STOP_WORDS,
    "lorem_ipsum": DropReason.LOREM_IPSUM,
    "curly_bracket": DropReason.CURLY_BRACKET,
    "too_few_sentences": DropReason.FEW_SENTENCES,
    "line_punct_ratio": DropReason.UNPUNCTUATED_LINES,
    "short_line_ratio": DropReason.SHORT_LINES,
    "char_dup_ratio": DropReason.REPEATED_LINES,
    "list_ratio": DropReason.LIST,
}
COMMON = "the be to of and that have with river water mill race gate wheel stone dam runs turns holds".split()  # noqa: SIM905
RARE = [
    f"{a}{b}{c}" for a in ("al", "ber", "cor", "dun") for b in "aeiou" for c in ("ly", "th", "ner", "ving")
]


class SharedWords(WordTokenizer):
    def word_tokenize(self, text: str) -> list[str]:
        return pieces_of(text)

    def sent_tokenize(self, text: str) -> list[str]:
        return [text[start:end] for start, end in self.span_tokenize(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return sentence_bounds(text)


def line(draw: random.Random, kind: float) -> str:
    words = draw.choices(COMMON + RARE * 4, k=draw.randint(1, 18))
    text = " ".join(words).capitalize()
    if draw.random() < kind:
        text = draw.choice(["- ", "\u2022 ", "  ", "# ", "", "# # # "]) + text
    if draw.random() < kind / 8:
        text += draw.choice(
            [" JavaScript", " lorem ipsum", " {", "[12]", " terms of use", " use cookies", " " + "x" * 1001]
        )
    return (
        text
        + draw.choices([".", "", "...", "!", " 12 34 56 #", "\u2026", '."'], [8, 1 + 4 * kind, *[kind] * 5])[
            0
        ]
    )


def document(seed: int) -> str:
    draw = random.Random(seed)
    kind = draw.choice([0, 0.05, 0.3, 1.0])
    lines: list[str] = []
    for _ in range(draw.randint(3, 40)):
        repeats = lines and draw.random() < kind * draw.random()
        lines.append(draw.choice(lines) if repeats else line(draw, kind))
    return draw.choice(["", "\n", " "]) + "".join(
        each + draw.choices(["\n", "\n\n", "\n\n\n", " ", "\n \n"], [6, 3, 1, 2, 0.3])[0] for each in lines
    )


@pytest.fixture(scope="module")
def peer() -> Callable[[str], tuple[str | None, str]]:
    words = SharedWords()
    steps = [
        GopherRepetitionFilter(language=words),
        GopherQualityFilter(language=words),
        C4QualityFilter(filter_no_terminal_punct=False, language=words),
        FineWebQualityFilter(language=words),
    ]

    def judge(text: str) -> tuple[str | None, str]:
        held = Document(text=text, id="0")
        for step in steps:
            kept = step.filter(held)
            if kept is not True:
                return str(kept[1]), text
        return None, held.text

    return judge


def test_the_same_documents_stay_for_the_same_reasons_with_the_same_text(peer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    off = ["stages.clean.rules.language.languages=[]", "stages.clean.rules.language.min_score=null"]
    stage: Any = compose_recipe(["+rules@stages.clean.rules=fineweb", *off]).config.stages["clean"]
    ours, seen = Judge(stage.rules), set()
    for seed in range(700):
        text = document(seed)
        reason, left = peer(text)
        verdict = ours.judge(text)
        assert (verdict.reason, verdict.text) == (REASONS[reason] if reason else None, left), (seed, reason)
        seen.add(reason)
    assert None in seen
    assert len(seen) >= 12, seen
