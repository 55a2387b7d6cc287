"""Quality filters: a rule measures a text and says the reason it drops it, or nothing.

Rules marked Gopher are those of Rae et al., "Scaling Language Models" (arXiv:2112.11446), appendix A.1.1, with
their thresholds; the two on duplicate lines are from its repetition table (A1). Words are what white space parts.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from functools import cached_property

from data.errors import Problem


@dataclass
class FilterRules:
    """Thresholds; None switches a rule off, 0 is a threshold like any other. Fractions lie in [0, 1]."""

    min_words: int | None = None
    "Words, at least. Gopher: 50."
    max_words: int | None = None
    "Words, at most. Gopher: 100000."
    min_characters: int | None = None
    "Characters, at least."
    max_characters: int | None = None
    "Characters, at most."
    min_mean_word_length: float | None = None
    "Characters per word on average, at least. Gopher: 3."
    max_mean_word_length: float | None = None
    "Characters per word on average, at most. Gopher: 10; source code needs more."
    max_symbol_ratio: float | None = None
    "Number signs and ellipses per word, at most. Gopher: 0.1; source code with comments needs more."
    min_alphabetic_fraction: float | None = None
    "Fraction of the characters that are not white space and are letters, at least; tables and dumps have few."
    min_alphabetic_word_fraction: float | None = None
    "Fraction of words with at least one letter, at least. Gopher: 0.8."
    min_stop_words: int | None = None
    "How many of the, be, to, of, and, that, have, with occur, at least; English only. Gopher: 2."
    max_bullet_line_fraction: float | None = None
    "Fraction of lines that begin with a bullet, at most. Gopher: 0.9."
    max_ellipsis_line_fraction: float | None = None
    "Fraction of lines that end with an ellipsis, at most. Gopher: 0.3."
    max_duplicate_line_fraction: float | None = None
    "Fraction of lines that are not blank and repeat an earlier one, at most. Gopher: 0.3."
    max_duplicate_line_character_fraction: float | None = None
    "Fraction of the lines' characters that are in such repeats, at most. Gopher: 0.2."
    max_line_characters: int | None = None
    "Characters in the longest line, at most; minified and generated code has thousands."
    max_mean_line_characters: float | None = None
    "Characters per line that is not blank, on average, at most; code by hand has below 100."

    def problems(self) -> list[Problem]:
        found = []
        for each in fields(self):
            threshold = getattr(self, each.name)
            if threshold is not None and threshold < 0:
                found.append(
                    Problem(each.name, f"{threshold}", "0 or more, or null", "null switches a rule off")
                )
            elif threshold is not None and each.name.endswith("_fraction") and threshold > 1:
                found.append(Problem(each.name, f"{threshold}", "a fraction from 0 to 1"))
        return found


class DropReason(Enum):
    """Why a text is dropped; the names of the counters."""

    EMPTY = "empty"  # nothing but white space; no threshold switches this off
    FEW_WORDS = "few_words"
    MANY_WORDS = "many_words"
    FEW_CHARACTERS = "few_characters"
    MANY_CHARACTERS = "many_characters"
    SHORT_WORDS = "short_words"
    LONG_WORDS = "long_words"
    SYMBOLS = "symbols"
    FEW_LETTERS = "few_letters"
    FEW_ALPHABETIC_WORDS = "few_alphabetic_words"
    FEW_STOP_WORDS = "few_stop_words"
    BULLETS = "bullets"
    ELLIPSES = "ellipses"
    DUPLICATE_LINES = "duplicate_lines"
    DUPLICATE_LINE_CHARACTERS = "duplicate_line_characters"
    LONG_LINE = "long_line"
    LONG_LINES = "long_lines"


STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})  # Gopher's eight
BULLETS = ("\u2022", "\u2023", "-", "*")
ELLIPSES = ("...", "\u2026")


class Measures:
    """What the rules measure of a text, each computed once and only if a rule asks."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without the white space around them."""
        return [line for line in map(str.strip, self.text.splitlines()) if line]

    @cached_property
    def num_word_characters(self) -> int:
        return sum(map(len, self.words))

    @cached_property
    def num_repeats(self) -> Counter[str]:
        """For each line, how often it occurs beyond the first time."""
        return Counter(self.lines) - Counter(set(self.lines))

    def mean_word_length(self) -> float:
        return _ratio(self.num_word_characters, len(self.words))

    def symbol_ratio(self) -> float:
        return _ratio(sum(map(self.text.count, ("#", *ELLIPSES))), len(self.words))

    def alphabetic_fraction(self) -> float:
        return _ratio(sum(map(str.isalpha, self.text)), self.num_word_characters)

    def alphabetic_word_fraction(self) -> float:
        return _ratio(sum(any(map(str.isalpha, word)) for word in self.words), len(self.words))

    def num_stop_words(self) -> int:
        return len(STOP_WORDS.intersection(map(str.lower, self.words)))

    def bullet_line_fraction(self) -> float:
        return _ratio(sum(line.startswith(BULLETS) for line in self.lines), len(self.lines))

    def ellipsis_line_fraction(self) -> float:
        return _ratio(sum(line.endswith(ELLIPSES) for line in self.lines), len(self.lines))

    def duplicate_line_fraction(self) -> float:
        return _ratio(self.num_repeats.total(), len(self.lines))

    def duplicate_line_character_fraction(self) -> float:
        repeated = sum(len(line) * times for line, times in self.num_repeats.items())
        return _ratio(repeated, sum(map(len, self.lines)))

    def longest_line(self) -> int:
        return max(map(len, self.text.splitlines()), default=0)

    def mean_line_characters(self) -> float:
        return _ratio(sum(map(len, self.lines)), len(self.lines))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


Measure = Callable[[Measures], float]

# In the order in which they are asked, the cheap ones first: field of FilterRules (min_ or max_ tells the side),
# what it bounds, and the reason when it does not hold.
CHECKS: tuple[tuple[str, Measure, DropReason], ...] = (
    ("min_characters", lambda m: len(m.text), DropReason.FEW_CHARACTERS),
    ("max_characters", lambda m: len(m.text), DropReason.MANY_CHARACTERS),
    ("min_words", lambda m: len(m.words), DropReason.FEW_WORDS),
    ("max_words", lambda m: len(m.words), DropReason.MANY_WORDS),
    ("min_mean_word_length", Measures.mean_word_length, DropReason.SHORT_WORDS),
    ("max_mean_word_length", Measures.mean_word_length, DropReason.LONG_WORDS),
    ("max_symbol_ratio", Measures.symbol_ratio, DropReason.SYMBOLS),
    ("max_line_characters", Measures.longest_line, DropReason.LONG_LINE),
    ("max_mean_line_characters", Measures.mean_line_characters, DropReason.LONG_LINES),
    ("max_bullet_line_fraction", Measures.bullet_line_fraction, DropReason.BULLETS),
    ("max_ellipsis_line_fraction", Measures.ellipsis_line_fraction, DropReason.ELLIPSES),
    ("max_duplicate_line_fraction", Measures.duplicate_line_fraction, DropReason.DUPLICATE_LINES),
    (
        "max_duplicate_line_character_fraction",
        Measures.duplicate_line_character_fraction,
        DropReason.DUPLICATE_LINE_CHARACTERS,
    ),
    ("min_stop_words", Measures.num_stop_words, DropReason.FEW_STOP_WORDS),
    ("min_alphabetic_fraction", Measures.alphabetic_fraction, DropReason.FEW_LETTERS),
    ("min_alphabetic_word_fraction", Measures.alphabetic_word_fraction, DropReason.FEW_ALPHABETIC_WORDS),
)


def drop_reason(text: str, rules: FilterRules) -> DropReason | None:
    """The first rule's reason to drop the text, or None: keep it. An empty text is dropped whatever the rules."""
    if not text or text.isspace():
        return DropReason.EMPTY
    measures = Measures(text)
    for name, measure, reason in CHECKS:
        threshold = getattr(rules, name)
        if threshold is None:
            continue
        value = measure(measures)
        if value < threshold if name.startswith("min_") else value > threshold:
            return reason
    return None
