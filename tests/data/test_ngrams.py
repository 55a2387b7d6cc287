import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import ngrams
from data.ngrams import units_of


def plain_words(text: str) -> list[str]:
    """Runs of letters, marks, digits and underscores, a character at a time."""
    words, word = [], ""
    for character in unicodedata.normalize("NFKC", text).lower() + " ":
        if unicodedata.category(character)[0] in "LMN" or character == "_":
            word += character
        elif word:
            words.append(word)
            word = ""
    return words


def said(units: ngrams.Units) -> list[str]:
    return [units.text[start:end] for start, end in zip(units.starts, units.ends, strict=True)]


@given(st.text(st.characters(max_codepoint=0x0DFF, exclude_categories=["Cs"]), max_size=60))
def test_words_are_runs_of_letters_marks_and_digits(text):
    assert said(units_of(text)) == plain_words(text)


@given(st.text("ab \n_é", max_size=80), st.integers(1, 4))
def test_ngrams_are_equal_where_their_words_are(text, n):
    units = units_of(text)
    words = plain_words(text)
    plain = [tuple(words[k : k + n]) for k in range(max(len(words) - n, 0) + 1)] if words else []
    hashes = units.ngrams(words=n, characters=1).tolist()
    assert len(hashes) == len(plain)
    assert len(set(hashes)) == len(set(plain)) == len(set(zip(hashes, plain, strict=True)))


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=40))
def test_a_hash_does_not_depend_on_where_in_a_text_a_word_is(words):
    alone = {word: int(units_of(word).hashes[0]) for word in words}
    assert units_of("  ".join(words)).hashes.tolist() == [alone[word] for word in words]
    assert len(set(alone.values())) == len(set(words))


def test_hashes_of_a_long_text_are_those_of_its_words():
    """A text of many pieces, with a word that lies where one ends."""
    words = [f"word{k % 977}" for k in range(9000)]
    units = units_of(" ".join(words))
    assert units.ends[-1] > 3 * ngrams.PIECE
    first = {word: units_of(word).hashes[0] for word in set(words)}
    assert units.hashes.tolist() == [first[word] for word in words]


def test_a_word_longer_than_a_piece_is_known_by_its_beginning():
    long = "x" * (ngrams.PIECE + 5)
    units = units_of(f"a {long} b")
    assert units.hashes.tolist() == [units_of(each).hashes[0] for each in ("a", "x" * ngrams.PIECE, "b")]


@pytest.mark.parametrize(
    "text", ["我们喜欢吃苹果。你呢", "吾輩は猫である。名前はまだ無い。", "ภาษาไทยไม่มีช่องว่าง"]
)
def test_scripts_without_spaces_are_taken_by_characters(text):
    units = units_of(text)
    assert not units.are_words
    assert said(units) == [each for each in units.text if unicodedata.category(each)[0] in "LMN"]
    assert units.ngram_text(1, words=1, characters=4) == units.text[1:5]


@pytest.mark.parametrize("text", ["Ein Wort 中文 im Satz", "한국어는 띄어쓰기를 합니다", "हिन्दी में शब्द"])
def test_other_scripts_are_taken_by_words(text):
    units = units_of(text)
    assert units.are_words
    assert said(units) == text.lower().split()


def test_what_does_not_count_does_not():
    one, other = units_of("The \ufb01rst, \uff33ECOND - third!"), units_of("the first second\tTHIRD")
    assert one.hashes.tolist() == other.hashes.tolist()


def test_short_and_empty_texts():
    assert units_of("").ngrams(words=5, characters=8).tolist() == []
    assert units_of(" ?! ").ngrams(words=5, characters=8).tolist() == []
    short = units_of("two words")
    assert len(short.ngrams(words=5, characters=8)) == 1
    assert short.ngram_text(0, words=5, characters=8) == "two words"


def test_hashes_are_pinned():
    """What a corpus loses depends on them: another hash needs new stage versions."""
    units = units_of("Some text")
    assert units.hashes.tolist() == [13123438961170092149, 11466712041691367306]
    assert units.ngrams(words=2, characters=8).tolist() == [16725538018750585648]
