from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.filters import CHECKS, DropReason, FilterRules, drop_reason

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
    ("max_line_characters", 5, "abc\nabcdef", "abcde\nabc", DropReason.LONG_LINE),
    ("max_mean_line_characters", 3, "abcdef\na", "abcde\n\n\na", DropReason.LONG_LINES),
]


@pytest.mark.parametrize(("name", "threshold", "bad", "good", "reason"), CASES)
def test_each_rule_drops_beyond_its_threshold_and_keeps_at_it(name, threshold, bad, good, reason):
    rules = FilterRules(**{name: threshold})
    assert drop_reason(bad, rules) is reason
    assert drop_reason(good, rules) is None
    assert drop_reason(bad, FilterRules()) is None


def test_every_rule_has_a_case_and_every_reason_a_rule():
    assert (
        {name for name, *_ in CASES}
        == {field.name for field in fields(FilterRules)}
        == {name for name, *_ in CHECKS}
    )
    assert {reason for *_, reason in CHECKS} == set(DropReason) - {DropReason.EMPTY}


def test_zero_is_a_threshold_and_none_is_off():
    assert drop_reason("a #", FilterRules(max_symbol_ratio=0)) is DropReason.SYMBOLS
    assert drop_reason("a #", FilterRules(max_symbol_ratio=None)) is None
    assert drop_reason("a", FilterRules(min_words=0)) is None
    assert drop_reason("a", FilterRules(max_words=0)) is DropReason.MANY_WORDS


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_dropped_whatever_the_rules(text):
    assert drop_reason(text, FilterRules(min_words=0)) is DropReason.EMPTY


@given(st.text(), st.sampled_from([name for name, *_ in CASES]), st.floats(0, 1))
def test_any_text_is_judged_without_an_error(text, name, threshold):
    assert drop_reason(text, FilterRules(**{name: threshold})) in {None, *DropReason}


def test_published_thresholds_keep_prose_and_drop_a_table():
    gopher = FilterRules(min_mean_word_length=3, max_mean_word_length=10, min_alphabetic_word_fraction=0.8)
    assert drop_reason(PROSE, gopher) is None
    assert drop_reason("1024 2048 4096 abc 8192", gopher) is DropReason.FEW_ALPHABETIC_WORDS


def test_impossible_thresholds_are_named():
    problems = FilterRules(min_words=-1, max_symbol_ratio=3, min_alphabetic_fraction=1.5).problems()
    assert [problem.field for problem in problems] == ["min_words", "min_alphabetic_fraction"]
