import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.filters import DropReason, FilterRules, Judge, LineRules
from data.filters.lines import LineReason

LINES = [
    ("max_word_characters", 5, "a longer", "short words", LineReason.LONG_WORD),
    ("terminal_punctuation", True, "no end", "an end.", LineReason.UNPUNCTUATED),
    ("min_words", 3, "two words", "three words here", LineReason.FEW_WORDS),
    ("javascript", True, "Enable JavaScript here", "Enable it here", LineReason.JAVASCRIPT),
    ("policy", True, "This site uses cookies.", "This site uses flour.", LineReason.POLICY),
]


def left(text: str, **rules) -> str | None:
    verdict = Judge(FilterRules(lines=LineRules(**rules))).judge(text)
    return None if verdict.reason else verdict.text


@pytest.mark.parametrize(("name", "value", "bad", "good", "reason"), LINES)
def test_a_line_goes_and_is_counted(name, value, bad, good, reason):
    judge = Judge(FilterRules(lines=LineRules(**{name: value})))
    assert judge.judge(f"{good}\n  {bad} \n{good}").text == f"{good}\n{good}"
    assert judge.counters == {"lines_in": 3, "lines": 2, f"lines_dropped/{reason.value}": 1}
    assert judge.judge(bad).reason is DropReason.EMPTY


def test_every_reason_has_a_case():
    assert {reason for *_, reason in LINES} == set(LineReason)


@pytest.mark.parametrize(
    ("line", "stays"),
    [
        ("He left.", True),
        ('"He left."', True),
        ("\u201cHe left.\u201d", True),
        ("Did he?", True),
        ("He left...", False),
        ("He left\u2026", False),
        ("He left,", False),
        ("\u4ed6\u8d70\u4e86\u3002", True),
        ("\u4ed6\u8d70\u4e86\uff0c", False),
    ],
)
def test_lines_end_in_the_punctuation_of_sentences(line, stays):
    assert left(f"{line}\nOne that stays.", terminal_punctuation=True) == (
        f"{line}\nOne that stays." if stays else "One that stays."
    )


def test_citations_go_and_the_words_of_the_line_are_counted_with_them():
    assert left("A fact [1] of[edit] it[citation needed].", citations=True) == "A fact  of it."
    assert left("A fact [2].\nA line of words.", citations=True, min_words=3) == "A fact .\nA line of words."
    assert left("arr[i] = [x]", citations=True) == "arr[i] = [x]"


def test_a_line_that_goes_is_not_looked_at_for_what_would_drop_the_document():
    rules = {"min_words": 3, "lorem_ipsum": True, "curly_brackets": True, "javascript": True}
    assert left("Lorem ipsum\n{ }\nwhat is left here", **rules) == "what is left here"
    assert left("var javascript = {}\nwhat is left here", **rules) == "what is left here"
    assert left("lorem ipsum dolor\nwhat is left here", **rules) is None
    assert left("var x = {}\nwhat is left here", **rules) is None


def test_without_a_rule_on_lines_the_text_stays_as_it_is():
    text = "  indented {\n\n\tmore  \n"
    assert left(text) == text


@given(
    st.text(st.sampled_from('ab {[1]."\n\u3002\u4e2d'), max_size=80),
    st.builds(
        LineRules,
        terminal_punctuation=st.booleans(),
        min_words=st.none() | st.integers(0, 3),
        max_word_characters=st.none() | st.integers(0, 9),
        curly_brackets=st.booleans(),
        min_sentences=st.none() | st.integers(0, 3),
    ),
)
def test_lines_add_up_and_cleaning_twice_is_cleaning_once(text, rules):
    judge = Judge(FilterRules(lines=rules))
    verdict = judge.judge(text)
    counters = judge.counters
    dropped = sum(n for name, n in counters.items() if name.startswith("lines_dropped/"))
    assert counters.get("lines_in", 0) == counters.get("lines", 0) + dropped
    if not verdict.reason:
        assert Judge(FilterRules(lines=rules)).judge(verdict.text) == verdict
