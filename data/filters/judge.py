"""Judging a text by all rules: language, the text as it is, its lines, and what is left of it."""

from collections import Counter
from dataclasses import dataclass

from data.filters.fineweb import fineweb_reason
from data.filters.language import identify
from data.filters.lines import LineFilter
from data.filters.measures import CHECKS, Measures, TokenMeasures
from data.filters.rules import DropReason, FilterRules, FineWebRules, Reading
from data.filters.words import Vocabulary


@dataclass(frozen=True, slots=True)
class Verdict:
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
        set_ones = ((name, getattr(rules, name), measure, reason) for name, measure, reason in CHECKS)
        self._checks = [
            (threshold, name.startswith("min_"), measure, reason)
            for name, threshold, measure, reason in set_ones
            if threshold is not None
        ]
        self._lines = LineFilter(rules.lines)
        self._languages: Counter[str] = Counter()

    @property
    def counters(self) -> dict[str, int]:
        """Documents by language, lines by what became of them; nothing where no rule asks."""
        return {f"language/{code}": n for code, n in self._languages.items()} | self._lines.counters

    def judge(self, text: str) -> Verdict:
        """An empty text is dropped whatever the rules."""
        if not text or text.isspace():
            return Verdict(text, DropReason.EMPTY)
        language, reason = self._language(text) if self._rules.language.identifies else ("", None)
        reason = reason or self._reason(text, language)
        left = text
        if reason is None and self._rules.lines.is_on:
            left, reason = self._lines.read(text)
            reason = reason or (None if left else DropReason.EMPTY)
        if reason is None and self._rules.fineweb != FineWebRules():
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
            stop_words=self._rules.language.stop_words,
            language=language or "en",
        )
        for threshold, is_least, measure, reason in self._checks:
            value = measure(measures)
            if value < threshold if is_least else value > threshold:
                return reason
        return None


def drop_reason(text: str, rules: FilterRules) -> DropReason | None:
    """The first rule's reason to drop the text, or None: keep it. For many texts, keep one `Judge`."""
    return Judge(rules).judge(text).reason
