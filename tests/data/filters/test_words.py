import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.filters import DropReason, FilterRules, LanguageRules, Reading, drop_reason
from data.filters.stop_words import STOP_WORDS
from data.filters.words import (
    ENDS_SENTENCE,
    LETTER,
    WORD,
    Vocabulary,
    longest_word,
    num_line_words,
    num_sentences,
    pieces_of,
)

AWKWARD = st.text(
    st.sampled_from("ab\u00e9.'-_,3 \n#\u4e2d\u3042\u3099\u0e01\u0e34\u3002\u2019\U0001f600\u0915\u093f")
)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Don't stop, well-known U.S. 3.14 and 1,000...", "Don't stop , well-known U.S . 3.14 and 1,000 ..."),
        ("aewm++ __init__ -v --help .cell ** - [a|b] x=1", "aewm++ __init__ -v -- help .cell ** - [ a|b ] x=1"),
        ("(see a/b: x_y) -- \u201cno\u201d", "( see a/b : x_y ) -- \u201c no \u201d"),
        ("\u6211\u4eec\u5728 Berlin\u3002", "\u6211 \u4eec \u5728 Berlin \u3002"),
        ("\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48", "\u0e17\u0e35\u0e48 \u0e19\u0e35\u0e48"),
        ("\u0939\u093f\u0928\u0940 \u0939\u0948\u0964", "\u0939\u093f\u0928\u0940 \u0939\u0948 \u0964"),
    ],
)  # fmt: skip
def test_a_text_falls_into_words_and_marks(text, pieces):
    assert pieces_of(text) == pieces.split()


@given(st.one_of(AWKWARD, st.text()))
def test_pieces_are_the_text_without_its_white_space(text):
    assert "".join(pieces_of(text)) == "".join(text.split())


@given(st.lists(st.one_of(AWKWARD, st.text()), max_size=4))
def test_what_a_vocabulary_has_seen_does_not_change_what_it_reads(texts):
    vocabulary = Vocabulary(splits=True)
    for text in texts:
        pieces, read = pieces_of(text), vocabulary.read(text)
        assert read == pieces
        assert read.num(LETTER) == sum(any(map(str.isalpha, each)) for each in pieces)
        fresh = Vocabulary(splits=True).read(text)
        assert fresh.kinds == read.kinds
        words = [len(p) for p, kind in zip(pieces, read.kinds, strict=True) if kind in (WORD, WORD + LETTER)]
        assert read.mean_spaced_word() == pytest.approx(sum(words) / (len(words) or math.nan), nan_ok=True)


def test_a_vocabulary_that_forgets_reads_the_same(monkeypatch):
    monkeypatch.setattr("data.filters.words.MAX_REMEMBERED", 3)
    vocabulary = Vocabulary(splits=True)
    first = vocabulary.read("The mill's wheel turns, and turns.")
    for text in ("one two three four", "\u4e2d\u6587, five", "x" * 100 + ", six."):
        read = vocabulary.read(text)
        assert read == pieces_of(text)
        assert read.kinds == Vocabulary(splits=True).read(text).kinds
    assert [first.num(kind) for kind in (WORD, LETTER)] == [6, 6]


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("One.", 1),
        ("no end", 1),
        ("One. Two! Three?! Four... and the rest", 5),
        ("Mr. J. R. Smith paid $3.14 to the U.S. Army.", 2),
        ('He said "Go." Then he went.', 2),
        ("\u4f60\u597d\u3002\u518d\u89c1\uff01\u771f\u7684\uff1f\u662f", 4),
        ("\u300c\u884c\u3053\u3046\u3002\u300d\u5f7c\u306f\u8a00\u3063\u305f\u3002", 2),
        ("\u092f\u0939 \u0939\u0948\u0964 \u0935\u0939 \u0939\u0948\u0964", 2),
    ],
)
def test_sentences_end_in_every_script(line, sentences):
    assert num_sentences(line, most=100) == sentences
    assert num_sentences(line, most=1) == 1


def test_the_marks_that_end_a_sentence_are_of_unicode():
    assert {".", "?", "!", "\u3002", "\uff01", "\uff1f", "\u061f", "\u06d4", "\u0964"} <= ENDS_SENTENCE
    assert not {",", ";", ":", '"', "\u2026", "a", "-"} & ENDS_SENTENCE


def test_words_of_a_line_in_scripts_without_spaces():
    assert num_line_words("three words here") == 3
    assert num_line_words("\u6211\u4eec\u5728\u5317\u4eac\u3002") == 5
    assert num_line_words("\u6211\u4eec use Linux\u3002") == 4
    assert longest_word("\u6211" * 2000) == 0
    assert longest_word("a" * 2000 + " \u6211") == 2000


CHINESE = "".join(chr(0x4E00 + i) for i in range(60)) + "\u3002"


def test_a_text_without_spaces_is_counted_by_its_characters():
    assert drop_reason(CHINESE, FilterRules(min_words=50)) is DropReason.FEW_WORDS
    rules = FilterRules(reading=Reading.tokens, min_words=50, max_words=60, min_mean_word_length=3)
    assert drop_reason(CHINESE, rules) is None
    assert drop_reason(CHINESE[20:], rules) is DropReason.FEW_WORDS


def test_a_few_words_with_spaces_do_not_speak_for_a_text_without():
    rules = FilterRules(reading=Reading.tokens, min_mean_word_length=3, max_mean_word_length=10)
    address = "http://www.linuxaudio.org/linuxaudio/index.html"
    for few in ("0 A.D.", "3", address):
        assert drop_reason(f"{CHINESE} {few} {CHINESE}", rules) is None
    assert drop_reason(f"{CHINESE[:3]} {'a b ' * 4}", rules) is DropReason.SHORT_WORDS
    assert drop_reason(f"{CHINESE[:3]} {f'{address} ' * 4}", rules) is DropReason.LONG_WORDS


def test_sequences_of_a_text_without_spaces_are_twice_as_long():
    limits = FilterRules(reading=Reading.tokens, max_duplicate_5gram_character_fraction=0.01)
    assert drop_reason(CHINESE[:9] + CHINESE[20:40] + CHINESE[:9], limits) is None
    assert drop_reason(CHINESE[:10] + CHINESE[20:40] + CHINESE[:10], limits) is DropReason.DUPLICATE_5GRAMS


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Der Hund und die Katze"),
        ("zh", "\u8fd9\u662f\u6211\u7684\u4e66"),
        ("th", "\u0e09\u0e31\u0e19\u0e41\u0e25\u0e30\u0e40\u0e02\u0e32\u0e44\u0e14\u0e49"),
        ("ru", "\u043e\u043d \u0438 \u043d\u0435 \u043e\u043d\u0430"),
    ],
)
def test_stop_words_are_the_language_s_own(monkeypatch, language, text):
    monkeypatch.setattr("data.filters.judge.identify", lambda _text: (language, 1.0))
    own = FilterRules(reading=Reading.tokens, min_stop_words=2, language=LanguageRules(min_score=0.5))
    assert drop_reason(text, own) is None
    assert drop_reason("qwerty " + STOP_WORDS[language][0], own) is DropReason.FEW_STOP_WORDS
    without = FilterRules(reading=Reading.tokens, min_stop_words=2)
    assert drop_reason(text, without) is DropReason.FEW_STOP_WORDS


def test_stop_words_of_one_s_own_and_a_language_without_any(monkeypatch):
    language = LanguageRules(stop_words=["kaj", "la"])
    rules = FilterRules(reading=Reading.tokens, min_stop_words=2, language=language)
    assert drop_reason("la hundo kaj la kato", rules) is None
    assert drop_reason("the be to of and", rules) is DropReason.FEW_STOP_WORDS
    monkeypatch.setattr("data.filters.judge.identify", lambda _text: ("eo", 1.0))
    rules = FilterRules(reading=Reading.tokens, min_stop_words=2, language=LanguageRules(min_score=0.5))
    assert drop_reason("hundo kato", rules) is None


def test_every_stop_word_is_one_that_the_reading_can_find():
    for language, words in STOP_WORDS.items():
        assert len(set(words)) == len(words) >= 8
        if language != "th":
            assert all(pieces_of(word) == [word] for word in words), language


@pytest.mark.parametrize("part", [".", "!'", "a.", ".\u3002", "a'", "-", "1,", "\u4e2d\u3099", "[", "U."])
def test_a_long_text_without_an_end_is_read_in_linear_time(part):
    text = part * (2_000_000 // len(part))
    assert sum(map(len, pieces_of(text))) == len(text)
    assert num_sentences(text, most=1 << 40) >= 1
    assert not re.search(r"\s", text)
