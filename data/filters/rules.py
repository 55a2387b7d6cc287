"""What a text must be to stay: thresholds, and the reasons for which texts are dropped.

Sources, by the names that the fields' strings use:

- Gopher: Rae et al. 2021, "Scaling Language Models" (arXiv:2112.11446), appendix A.1.1; the rules on repetition are
  its table A1.
- C4: Raffel et al. 2020, "Exploring the Limits of Transfer Learning" (JMLR 21:140), section 2.2.
- FineWeb: Penedo et al. 2024, "The FineWeb Datasets" (arXiv:2406.17557), section 3.6 and the code that made it.

`conf/rules` has each set by name.
"""

import re
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from data.errors import Problem


class Reading(Enum):
    """How a text falls into words and lines, for the rules that count them."""

    spaces = (
        "spaces"  # a word is what white space parts; blank lines are no lines; bullets are also * and \u2023
    )
    tokens = (
        "tokens"  # as the published sets' own code: marks apart, blank lines count; see data/filters/words.py
    )


@dataclass
class LanguageRules:
    """The language that lid.176.ftz (Joulin et al. 2016; 176 languages, small model) finds first; off unless set."""

    languages: list[str] = field(default_factory=list)
    "ISO 639 codes that stay, such as en, zh, de; empty: any. FineWeb: en."
    min_score: float | None = None
    "Score of the language found, at least, in [0, 1]. FineWeb (section 3.3): 0.65."
    max_characters: int | None = None
    "Characters from the beginning that are read; None: all, as for FineWeb. Fewer take less time."
    stop_words: list[str] = field(default_factory=list)
    "What min_stop_words counts, in place of the list built in for the document's language."

    @property
    def identifies(self) -> bool:
        return bool(self.languages) or self.min_score is not None


@dataclass
class LineRules:
    """Lines that go, and documents that go for what a line holds; the lines that stay lose the space around them."""

    terminal_punctuation: bool = False
    "Lines that do not end in . ? ! or a closing quotation mark go. C4: true; FineWeb: false."
    min_words: int | None = None
    "Words of a line, at least. C4: 5; FineWeb: 3."
    max_word_characters: int | None = None
    "Characters of a line's longest word, at most. C4's code and FineWeb: 1000."
    javascript: bool = False
    "Lines that name JavaScript go. C4."
    policy: bool = False
    "Lines that speak of cookies, terms of use or a privacy policy go. C4."
    citations: bool = False
    "Wikipedia's [1], [edit] and [citation needed] go from the lines. C4's code."
    lorem_ipsum: bool = False
    "Documents with a line of lorem ipsum go. C4."
    curly_brackets: bool = False
    "Documents with a line that holds { go. C4."
    min_sentences: int | None = None
    "Sentences in the lines that stay, at least. C4: 3; FineWeb: 5."

    @property
    def is_on(self) -> bool:
        return any(getattr(self, each.name) not in (None, False) for each in fields(self))


@dataclass
class FineWebRules:
    """FineWeb's own rules, on what `lines` leaves; blank lines are no lines."""

    min_punctuated_line_fraction: float | None = None
    "Fraction of lines that end in a sentence's punctuation, at least. FineWeb: 0.12."
    max_short_line_fraction: float | None = None
    "Fraction of lines that are short, at most. FineWeb: 0.67."
    short_line_characters: int = 30
    "A line of at most so many characters is short. FineWeb: 30."
    max_duplicate_line_character_fraction: float | None = None
    "Fraction of characters in lines that repeat an earlier one, at most. FineWeb's code: 0.01; its text: 0.1."
    max_line_ends_per_word: float | None = None
    "Line ends per word, at most; lists have many. FineWeb's code: 0.3."


@dataclass
class FilterRules:
    """Thresholds; None switches a rule off, 0 is a threshold like any other. Fractions lie in [0, 1]."""

    reading: Reading = Reading.spaces
    "What a word and a line are: spaces, or tokens as the published sets and scripts without spaces need it."
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
    "Number signs and ellipses together per word, at most; source code with comments needs more than 0.1."
    max_hash_ratio: float | None = None
    "Number signs per word, at most. Gopher: 0.1."
    max_ellipsis_ratio: float | None = None
    "Ellipses per word, at most. Gopher: 0.1."
    min_alphabetic_fraction: float | None = None
    "Fraction of the characters that are not white space and are letters, at least; tables and dumps have few."
    min_alphabetic_word_fraction: float | None = None
    "Fraction of words with at least one letter, at least. Gopher: 0.8."
    min_stop_words: int | None = None
    "How many of the language's stop words occur, at least; English: the be to of and that have with. Gopher: 2."
    max_bullet_line_fraction: float | None = None
    "Fraction of lines that begin with a bullet, at most. Gopher: 0.9."
    max_ellipsis_line_fraction: float | None = None
    "Fraction of lines that end with an ellipsis, at most. Gopher: 0.3."
    max_duplicate_line_fraction: float | None = None
    "Fraction of lines that are not blank and repeat an earlier one, at most. Gopher: 0.3."
    max_duplicate_line_character_fraction: float | None = None
    "Fraction of characters that are in such repeats, at most. Gopher: 0.2."
    max_duplicate_paragraph_fraction: float | None = None
    "Fraction of paragraphs (blank lines part them) that repeat an earlier one, at most. Gopher: 0.3."
    max_duplicate_paragraph_character_fraction: float | None = None
    "Fraction of characters that are in such repeats, at most. Gopher: 0.2."
    max_top_2gram_character_fraction: float | None = None
    "Fraction of characters in the most frequent sequence of 2 words, at most. Gopher: 0.2."
    max_top_3gram_character_fraction: float | None = None
    "The same of 3 words. Gopher: 0.18."
    max_top_4gram_character_fraction: float | None = None
    "The same of 4 words. Gopher: 0.16."
    max_duplicate_5gram_character_fraction: float | None = None
    "Fraction of characters in sequences of 5 words that repeat an earlier one, none counted twice. Gopher: 0.15."
    max_duplicate_6gram_character_fraction: float | None = None
    "The same of 6 words. Gopher: 0.14."
    max_duplicate_7gram_character_fraction: float | None = None
    "The same of 7 words. Gopher: 0.13."
    max_duplicate_8gram_character_fraction: float | None = None
    "The same of 8 words. Gopher: 0.12."
    max_duplicate_9gram_character_fraction: float | None = None
    "The same of 9 words. Gopher: 0.11."
    max_duplicate_10gram_character_fraction: float | None = None
    "The same of 10 words. Gopher: 0.1."
    max_line_characters: int | None = None
    "Characters in the longest line, at most; minified and generated code has thousands."
    max_mean_line_characters: float | None = None
    "Characters per line that is not blank, on average, at most; code by hand has below 100."
    language: LanguageRules = field(default_factory=LanguageRules)
    "Languages that stay; asked before the rules above."
    lines: LineRules = field(default_factory=LineRules)
    "Lines that go; asked after the rules above."
    fineweb: FineWebRules = field(default_factory=FineWebRules)
    "FineWeb's own rules; asked last."

    def problems(self) -> list[Problem]:
        found = _threshold_problems(self, "")
        for name in ("language", "lines", "fineweb"):
            found += _threshold_problems(getattr(self, name), f"{name}.")
        found += [
            Problem("language.languages", f'"{code}"', "codes of ISO 639 in small letters, such as en")
            for code in self.language.languages
            if not re.fullmatch(r"[a-z]{2,3}", code)
        ]
        score = self.language.min_score
        if score is not None and score > 1:
            found.append(Problem("language.min_score", f"{score}", "a score from 0 to 1"))
        return found


def _threshold_problems(rules: Any, prefix: str) -> list[Problem]:
    found = []
    for each in fields(rules):
        threshold, name = getattr(rules, each.name), prefix + each.name
        if not isinstance(threshold, int | float):
            continue
        if threshold < 0:
            found.append(Problem(name, f"{threshold}", "0 or more, or null", "null switches a rule off"))
        elif each.name.endswith("_fraction") and threshold > 1:
            found.append(Problem(name, f"{threshold}", "a fraction from 0 to 1"))
    return found


class DropReason(Enum):
    """Why a text is dropped; the names of the counters."""

    EMPTY = (
        "empty"  # nothing but white space, as given or once lines are gone; no threshold switches this off
    )
    LANGUAGE = "language"
    FEW_WORDS = "few_words"
    MANY_WORDS = "many_words"
    FEW_CHARACTERS = "few_characters"
    MANY_CHARACTERS = "many_characters"
    SHORT_WORDS = "short_words"
    LONG_WORDS = "long_words"
    SYMBOLS = "symbols"
    HASHES = "hashes"
    ELLIPSIS_MARKS = "ellipsis_marks"
    FEW_LETTERS = "few_letters"
    FEW_ALPHABETIC_WORDS = "few_alphabetic_words"
    FEW_STOP_WORDS = "few_stop_words"
    BULLETS = "bullets"
    ELLIPSES = "ellipses"
    DUPLICATE_LINES = "duplicate_lines"
    DUPLICATE_LINE_CHARACTERS = "duplicate_line_characters"
    DUPLICATE_PARAGRAPHS = "duplicate_paragraphs"
    DUPLICATE_PARAGRAPH_CHARACTERS = "duplicate_paragraph_characters"
    TOP_2GRAM = "top_2gram"
    TOP_3GRAM = "top_3gram"
    TOP_4GRAM = "top_4gram"
    DUPLICATE_5GRAMS = "duplicate_5grams"
    DUPLICATE_6GRAMS = "duplicate_6grams"
    DUPLICATE_7GRAMS = "duplicate_7grams"
    DUPLICATE_8GRAMS = "duplicate_8grams"
    DUPLICATE_9GRAMS = "duplicate_9grams"
    DUPLICATE_10GRAMS = "duplicate_10grams"
    LONG_LINE = "long_line"
    LONG_LINES = "long_lines"
    LOREM_IPSUM = "lorem_ipsum"
    CURLY_BRACKET = "curly_bracket"
    FEW_SENTENCES = "few_sentences"
    UNPUNCTUATED_LINES = "unpunctuated_lines"
    SHORT_LINES = "short_lines"
    REPEATED_LINES = "repeated_lines"
    LIST = "list"
