from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.filters import (
    CHECKS,
    DropReason,
    FilterRules,
    FineWebRules,
    LanguageRules,
    LineRules,
    Reading,
    drop_reason,
)
from data.filters.measures import Measures, TokenMeasures
from data.filters.words import Vocabulary

PROSE = "The river runs to the sea, and that is all that we have to say of it.\n"

# field, threshold, a text it drops, a text at the threshold or on its good side
CASES = [
    ("min_words", 3, "one two", "one two three", DropReason.FEW_WORDS),
    ("max_words", 3, "one two three four", "one two three", DropReason.MANY_WORDS),
    ("min_characters", 4, "abc", "abcd", DropReason.FEW_CHARACTERS),
    ("max_characters", 4, "abcde", "abcd", DropReason.MANY_CHARACTERS),
    ("min_mean_word_length", 3, "ab abc", "abc abc", DropReason.SHORT_WORDS),
    ("max_mean_word_length", 3, "abc abcd", "abc abc", DropReason.LONG_WORDS),
    ("max_symbol_ratio", 0.5, "# # a...", "# a", DropReason.SYMBOLS),
    ("min_alphabetic_fraction", 0.5, "a 12", "a 1", DropReason.FEW_LETTERS),
    ("min_alphabetic_word_fraction", 0.5, "a 1 2", "a 1", DropReason.FEW_ALPHABETIC_WORDS),
    ("min_stop_words", 2, "the the cat", "The cat and dog", DropReason.FEW_STOP_WORDS),
    ("max_bullet_line_fraction", 0.5, "- a\n* b\nc", "- a\n\nb", DropReason.BULLETS),
    ("max_ellipsis_line_fraction", 0.5, "a...\nb\u2026\nc", "a...\nb", DropReason.ELLIPSES),
    ("max_duplicate_line_fraction", 0.5, "a\na\na\n a\nb", "a\n\n\na\nb", DropReason.DUPLICATE_LINES),
    (
        "max_duplicate_line_character_fraction",
        0.4,
        "ab\nab",
        "ab\nab\nc",
        DropReason.DUPLICATE_LINE_CHARACTERS,
    ),
    ("max_hash_ratio", 0.5, "# # a", "# a...", DropReason.HASHES),
    ("max_ellipsis_ratio", 0.5, "a... b\u2026 c", "a... #", DropReason.ELLIPSIS_MARKS),
    ("max_duplicate_paragraph_fraction", 0.4, "a\n\na", "a\na\n\nb", DropReason.DUPLICATE_PARAGRAPHS),
    (
        "max_duplicate_paragraph_character_fraction",
        0.3,
        "abc\n\n\nabc",
        "a\n\nb\n\nlong\n\na",
        DropReason.DUPLICATE_PARAGRAPH_CHARACTERS,
    ),
    ("max_top_2gram_character_fraction", 0.5, "a b c a b", "a b c d e f", DropReason.TOP_2GRAM),
    ("max_top_3gram_character_fraction", 0.5, "a b c a b c", "a b c d e f g h", DropReason.TOP_3GRAM),
    ("max_top_4gram_character_fraction", 0.5, "a b c d a b c d", "a b c d e f g h i", DropReason.TOP_4GRAM),
    *(
        (
            f"max_duplicate_{n}gram_character_fraction",
            0.2,
            " ".join([*map(chr, range(97, 97 + n))] * 2),
            " ".join([*map(chr, range(97, 96 + n))] * 2),
            DropReason(f"duplicate_{n}grams"),
        )
        for n in range(5, 11)
    ),
    ("max_line_characters", 5, "abc\nabcdef", "abcde\nabc", DropReason.LONG_LINE),
    ("max_mean_line_characters", 3, "abcdef\na", "abcde\n\n\na", DropReason.LONG_LINES),
]


@pytest.mark.parametrize(("name", "threshold", "bad", "good", "reason"), CASES)
def test_each_rule_drops_beyond_its_threshold_and_keeps_at_it(name, threshold, bad, good, reason):
    rules = FilterRules(**{name: threshold})
    assert drop_reason(bad, rules) is reason
    assert drop_reason(good, rules) is None
    assert drop_reason(bad, FilterRules()) is None


NO_THRESHOLDS = {"reading", "language", "lines", "fineweb"}


def test_every_rule_has_a_case_and_every_reason_a_rule():
    names = {name for name, *_ in CASES}
    assert (
        names
        == {field.name for field in fields(FilterRules)} - NO_THRESHOLDS
        == {check.field for check in CHECKS}
    )
    reasons = {check.reason for check in CHECKS} | {reason for *_, reason in [*LINE_CASES, *FINEWEB_CASES]}
    assert reasons == set(DropReason) - {DropReason.EMPTY, DropReason.LANGUAGE}


TEXTS = st.lists(
    st.sampled_from(["a", "b", "word", " ", "\n", "\n\n", "\u2028", "a b a b c d e "]),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize("kind", [Measures, TokenMeasures])
@given(TEXTS.map("".join))
def test_where_a_rule_is_not_asked_nothing_repeats(kind, text):
    measures = kind(text, vocabulary=Vocabulary(splits=kind is TokenMeasures))
    asked = [check for check in CHECKS if check.where is not None]
    assert asked
    for check in asked:
        assert check.where(measures) or check.measure(measures) == 0, check.field


LINE_CASES = [
    ({"lorem_ipsum": True}, "Words of lorem\nHere is Lorem Ipsum.", "lorem\nipsum", DropReason.LOREM_IPSUM),
    (
        {"curly_brackets": True, "min_words": 3},
        "int f { return",
        "A word or two.\n{ }",
        DropReason.CURLY_BRACKET,
    ),
    ({"min_sentences": 3}, "One. Two\n", "One. Two\nThree", DropReason.FEW_SENTENCES),
]
FINEWEB_CASES = [
    ({"min_punctuated_line_fraction": 0.5}, "a\nb\nc.", "a\n \nb\u3002", DropReason.UNPUNCTUATED_LINES),
    (
        {"max_short_line_fraction": 0.5, "short_line_characters": 2},
        "ab\nc",
        "ab\nabc",
        DropReason.SHORT_LINES,
    ),
    (
        {"max_duplicate_line_character_fraction": 0.2},
        "abc\nabc\nd",
        "a\na\nabcdefg",
        DropReason.REPEATED_LINES,
    ),
    ({"max_line_ends_per_word": 0.5}, "a\nb\nc", "a b\nc d", DropReason.LIST),
]


@pytest.mark.parametrize(("settings", "bad", "good", "reason"), LINE_CASES)
def test_what_a_line_holds_may_drop_the_document(settings, bad, good, reason):
    rules = FilterRules(lines=LineRules(**settings))
    assert drop_reason(bad, rules) is reason
    assert drop_reason(good, rules) is None


@pytest.mark.parametrize(("settings", "bad", "good", "reason"), FINEWEB_CASES)
def test_each_rule_of_fineweb_drops_beyond_its_threshold(settings, bad, good, reason):
    rules = FilterRules(fineweb=FineWebRules(**settings))
    assert drop_reason(bad, rules) is reason
    assert drop_reason(good, rules) is None


def test_zero_is_a_threshold_and_none_is_off():
    assert drop_reason("a #", FilterRules(max_symbol_ratio=0)) is DropReason.SYMBOLS
    assert drop_reason("a #", FilterRules(max_symbol_ratio=None)) is None
    assert drop_reason("a", FilterRules(min_words=0)) is None
    assert drop_reason("a", FilterRules(max_words=0)) is DropReason.MANY_WORDS


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_dropped_whatever_the_rules(text):
    assert drop_reason(text, FilterRules(min_words=0)) is DropReason.EMPTY


@given(st.text(), st.sampled_from([name for name, *_ in CASES]), st.floats(0, 1), st.sampled_from(Reading))
def test_any_text_is_judged_without_an_error(text, name, threshold, reading):
    assert drop_reason(text, FilterRules(reading=reading, **{name: threshold})) in {None, *DropReason}


def test_published_thresholds_keep_prose_and_drop_a_table():
    gopher = FilterRules(min_mean_word_length=3, max_mean_word_length=10, min_alphabetic_word_fraction=0.8)
    assert drop_reason(PROSE, gopher) is None
    assert drop_reason("1024 2048 4096 abc 8192", gopher) is DropReason.FEW_ALPHABETIC_WORDS


def test_impossible_thresholds_are_named():
    problems = FilterRules(min_words=-1, max_symbol_ratio=3, min_alphabetic_fraction=1.5).problems()
    assert [problem.field for problem in problems] == ["min_words", "min_alphabetic_fraction"]
    nested = FilterRules(
        lines=LineRules(min_words=-1),
        fineweb=FineWebRules(max_short_line_fraction=2),
        language=LanguageRules(languages=["en", "English"], min_score=2),
    )
    assert [problem.field for problem in nested.problems()] == [
        "lines.min_words",
        "fineweb.max_short_line_fraction",
        "language.languages",
        "language.min_score",
    ]
