import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.normalize import NormalizeRules, UnicodeForm, normalize

OFF = {
    "mojibake": False,
    "unicode_form": UnicodeForm.none,
    "line_endings": False,
    "control_characters": False,
    "trailing_whitespace": False,
    "max_blank_lines": None,
}
awkward = st.text(
    st.sampled_from("ab \t\r\n\x00\x0c\x85\ufeff\u0301e\u00e9\u3000\uff21\u2028\ufb01"), max_size=30
)
rules = st.builds(
    NormalizeRules,
    mojibake=st.booleans(),
    unicode_form=st.sampled_from(UnicodeForm),
    line_endings=st.booleans(),
    control_characters=st.booleans(),
    trailing_whitespace=st.booleans(),
    max_blank_lines=st.one_of(st.none(), st.integers(0, 3)),
)


def only(text: str, **options) -> str:
    return normalize(text, rules=NormalizeRules(**(OFF | options)))


@given(st.one_of(awkward, st.text()), rules)
def test_twice_is_once(text, rule):
    once = normalize(text, rules=rule)
    assert normalize(once, rules=rule) == once


@given(st.one_of(awkward, st.text()))
def test_each_rule_keeps_its_promise(text):
    assert only(text) == text
    assert "\r" not in only(text, line_endings=True)
    controls = [c for c in only(text, control_characters=True) if unicodedata.category(c) == "Cc"]
    assert set(controls) <= {"\t", "\n", "\r"}
    assert unicodedata.is_normalized("NFC", only(text, unicode_form=UnicodeForm.nfc))
    trimmed = only(text, trailing_whitespace=True, line_endings=True)
    assert all(line == line.rstrip() for line in trimmed.split("\n"))


@given(awkward)
def test_no_rule_touches_letters(text):
    letters = [c for c in unicodedata.normalize("NFC", text) if c.isalpha()]
    assert [c for c in normalize(text, rules=NormalizeRules()) if c.isalpha()] == letters


@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, "a\nb\nc"), (1, "a\n\nb\nc"), (2, "a\n\n\nb\nc"), (3, "a\n\n\n\nb\nc"), (None, "a\n\n\n\nb\nc")],
)
def test_runs_of_blank_lines_are_cut(most, expected):
    assert only("a\n\n\n\nb\nc", max_blank_lines=most) == expected


@given(st.text("a \t\n\r\x0c\u3000", max_size=30), st.integers(0, 3))
def test_blank_lines_are_cut_the_same_in_one_go_and_after_lines_were_trimmed(text, most):
    at_once = only(text, trailing_whitespace=True, max_blank_lines=most)
    assert at_once == only(only(text, trailing_whitespace=True), max_blank_lines=most)


def test_blank_lines_with_white_space_and_crlf_count():
    assert only("a\r\n \r\n\t\r\n\r\nb", max_blank_lines=1) == "a\r\n \r\nb"
    assert only("\n\n\n\na", max_blank_lines=1) == "\na"


def test_source_code_keeps_its_indentation():
    code = "def f():\r\n\tif x:   \r\n\t\treturn 1\r\n\r\n\r\n\r\n\r\n"
    assert normalize(code, rules=NormalizeRules()) == "def f():\n\tif x:\n\t\treturn 1"


def test_impossible_rules_are_named():
    assert [problem.field for problem in NormalizeRules(max_blank_lines=-1).problems()] == ["max_blank_lines"]
    assert NormalizeRules().problems() == []


@pytest.mark.parametrize(
    "text",
    ["caf\u00e9 na\u00efve", "\u201cquoted\u201d \u2013 it\u2019s", "\u00fcber stra\u00dfe", "\u4f60\u597d"],
)
@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
def test_text_in_the_wrong_encoding_is_repaired_where_wanted(text, wrong):
    try:
        broken = text.encode().decode(wrong)
    except UnicodeDecodeError:
        broken = text.encode().decode("latin-1")
    assert only(f"{broken}\n{text}", mojibake=True) == f"{text}\n{text}"
    assert only(f"{broken}\n{text}") == f"{broken}\n{text}"


@pytest.mark.parametrize(
    "text",
    [
        "&eacute; \u201cso\u201d \ufb01 \uff21\r\n\x1b[1m",
        "\u00c9T\u00c9 \u00e0 Gen\u00e8ve",
        "a \u00d7 b \u2260 \u00b15 \u00b0C",
    ],
)
def test_repair_leaves_alone_what_is_not_broken(text):
    assert only(text, mojibake=True) == text


@given(st.text(), st.sampled_from(["latin-1", "cp1252"]))
def test_repairing_twice_is_repairing_once(text, wrong):
    broken = text.encode().decode(wrong, errors="ignore")
    once = normalize(broken, rules=NormalizeRules(mojibake=True))
    assert normalize(once, rules=NormalizeRules(mojibake=True)) == once
