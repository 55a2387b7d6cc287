"""Judging a text by all rules: language, the text as it is, its lines, and what is left of it."""

from collections import Counter
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from data.filters.fineweb import fineweb_reason
from data.filters.language import identify
from data.filters.lines import LineFilter
from data.filters.measures import CHECKS, Measures, TokenMeasures
from data.filters.rules import DropReason, FilterRules, FineWebRules, Reading
from data.filters.words import Vocabulary


class Verdict(NamedTuple):
    """What becomes of a text."""

    text: str
    "What is left of it, lines of it gone; as it was where it is dropped."
    reason: DropReason | None
    "Why it is dropped, or None: it stays."
    language: str = ""
    "ISO 639 code; empty where no rule asks."


class Judge:
    """Applies rules to one text after another. What it remembers makes it fast, and never changes a verdict."""

    def __init__(self, rules: FilterRules) -> None:
        self._rules = rules
        is_tokens = rules.reading is Reading.tokens
        self._measures = TokenMeasures if is_tokens else Measures
        self._vocabulary = Vocabulary(splits=is_tokens)
        self._stop_words = rules.language.stop_words
        set_ones = (check for check in CHECKS if getattr(rules, check.field) is not None)
        self._checks = [
            (
                where,
                [
                    (getattr(rules, each.field), each.field.startswith("min_"), each.measure, each.reason)
                    for each in checks
                ],
            )
            for where, checks in groupby(set_ones, attrgetter("where"))
        ]
        self._lines = LineFilter(rules.lines)
        self._asks_language, self._asks_lines = rules.language.identifies, rules.lines.is_on
        self._asks_fineweb = rules.fineweb != FineWebRules()
        self._languages: Counter[str] = Counter()

    @property
    def counters(self) -> dict[str, int]:
        """Documents by language, lines by what became of them; nothing where no rule asks."""
        return {f"language/{code}": n for code, n in self._languages.items()} | self._lines.counters

    def judge(self, text: str) -> Verdict:
        """An empty text is dropped whatever the rules."""
        if not text or text.isspace():
            return Verdict(text, DropReason.EMPTY)
        language, reason = self._language(text) if self._asks_language else ("", None)
        reason = reason or self._reason(text, language)
        left = text
        if reason is None and self._asks_lines:
            left, reason = self._lines.read(text)
            reason = reason or (None if left else DropReason.EMPTY)
        if reason is None and self._asks_fineweb:
            reason = fineweb_reason(left, self._rules.fineweb, self._vocabulary)
        return Verdict(text if reason else left, reason, language)

    def _language(self, text: str) -> tuple[str, DropReason | None]:
        rules = self._rules.language
        code, score = identify(text[: rules.max_characters])
        self._languages[code] += 1
        stays = (not rules.languages or code in rules.languages) and score >= (rules.min_score or 0)
        return code, None if stays else DropReason.LANGUAGE

    def _reason(self, text: str, language: str) -> DropReason | None:
        measures = self._measures(
            text,
            vocabulary=self._vocabulary,
            stop_words=self._stop_words,
            language=language or "en",
        )
        for where, checks in self._checks:
            if where is None or where(measures):
                for threshold, is_least, measure, reason in checks:
                    value = measure(measures)
                    if value < threshold if is_least else value > threshold:
                        return reason
        return None


def drop_reason(text: str, rules: FilterRules) -> DropReason | None:
    """The first rule's reason to drop the text, or None: keep it. For many texts, keep one `Judge`."""
    return Judge(rules).judge(text).reason
