"""Word vectors on disk and in the formats of others, gensim's readers and writers as the reference."""

import numpy as np
import pytest
from gensim.models import FastText, KeyedVectors
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data.errors import DataError
from data.vectors.interchange import VectorFormat, found_format, read_vectors, write_vectors
from data.vectors.word_vectors import Subwords, WordVectors

PORTABLE = [VectorFormat.text, VectorFormat.binary]
SENTENCES = [["river", "water", "wheel"], ["mill", "water", "stone"], ["mill", "wheel", "caf\u00e9"]] * 4
WORD = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8)


@st.composite
def word_vectors(draw):
    words = draw(st.lists(WORD, min_size=1, max_size=6, unique=True))
    shape = (len(words), draw(st.integers(1, 5)))
    numbers = arrays.arrays(np.float32, shape, elements=st.floats(width=32, allow_nan=False))
    counts = draw(st.lists(st.integers(0, 2**40), min_size=len(words), max_size=len(words)))
    return WordVectors(words, np.array(counts, np.int64), draw(numbers))


def vectors_of(rows: dict[str, list[float]]) -> WordVectors:
    return WordVectors([*rows], np.ones(len(rows), np.int64), np.array([*rows.values()], np.float32))


@pytest.fixture(scope="module")
def fasttext() -> FastText:
    return FastText(SENTENCES, vector_size=8, min_count=1, bucket=50, min_n=2, max_n=4, workers=1, epochs=2)


@pytest.fixture
def with_subwords(fasttext) -> WordVectors:
    found = fasttext.wv
    counts = np.array([found.get_vecattr(word, "count") for word in found.index_to_key])
    subwords = Subwords(found.vectors_vocab, found.vectors_ngrams, 2, 4)
    return WordVectors(found.index_to_key, counts, found.vectors, subwords)


@given(vectors=word_vectors())
@settings(max_examples=60, deadline=None)
def test_a_folder_gives_back_what_was_saved(vectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    vectors.save(folder)
    found = WordVectors.load(folder)
    assert list(found.words) == vectors.words
    assert found.counts.tolist() == vectors.counts.tolist()
    assert np.array_equal(found.vectors, vectors.vectors)


@given(vectors=word_vectors(), form=st.sampled_from(PORTABLE))
@settings(max_examples=100, deadline=None)
def test_a_file_is_the_same_to_us_and_to_gensim(vectors, form, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "vectors"
    write_vectors(vectors, path, form=form)
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=form is VectorFormat.binary)
    ours = read_vectors(path, form=form)
    assert list(ours.words) == vectors.words == theirs.index_to_key
    assert np.array_equal(ours.vectors, vectors.vectors)
    assert np.array_equal(theirs.vectors, vectors.vectors)


@given(vectors=word_vectors(), form=st.sampled_from(PORTABLE))
@settings(max_examples=60, deadline=None)
def test_what_gensim_writes_is_read(vectors, form, tmp_path_factory):
    path = tmp_path_factory.mktemp("theirs") / "vectors"
    theirs = KeyedVectors(vectors.width)
    theirs.add_vectors(vectors.words, vectors.vectors)
    theirs.save_word2vec_format(str(path), binary=form is VectorFormat.binary)
    found = read_vectors(path, form=form)
    assert list(found.words) == vectors.words
    assert np.array_equal(found.vectors, vectors.vectors)


def test_the_same_vectors_give_the_same_bytes(tmp_path, with_subwords):
    for name in ("one", "two"):
        with_subwords.save(tmp_path / name)
    files = [
        {each.name: each.read_bytes() for each in (tmp_path / name).iterdir()} for name in ("one", "two")
    ]
    assert files[0] == files[1]


def test_subwords_are_kept_and_give_unseen_words_the_vector_that_gensim_gives(
    tmp_path, with_subwords, fasttext
):
    with_subwords.save(tmp_path)
    found = WordVectors.load(tmp_path)
    for word in ("river", "waterwheel", "mills", "\u6c34\u8eca"):
        np.testing.assert_allclose(found.vector(word), fasttext.wv[word], rtol=1e-5, atol=1e-7)
    assert vectors_of({"a": [1.0]}).vector("b") is None


def test_fasttext_files_go_both_ways(tmp_path, with_subwords, fasttext):
    write_vectors(with_subwords, tmp_path / "ours.bin", form=VectorFormat.fasttext)
    theirs = load_facebook_vectors(str(tmp_path / "ours.bin"))
    save_facebook_model(fasttext, str(tmp_path / "theirs.bin"))
    ours = read_vectors(tmp_path / "theirs.bin")
    for word in ("river", "caf\u00e9", "millstones"):
        np.testing.assert_allclose(theirs[word], fasttext.wv[word], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(ours.vector(word), fasttext.wv[word], rtol=1e-5, atol=1e-7)
    assert ours.counts.tolist() == with_subwords.counts.tolist()
    with pytest.raises(DataError, match="no subwords"):
        write_vectors(vectors_of({"a": [1.0]}), tmp_path / "none.bin", form=VectorFormat.fasttext)


def test_the_format_is_found_by_what_a_file_begins_with(tmp_path, with_subwords):
    for form in (*PORTABLE, VectorFormat.fasttext):
        write_vectors(with_subwords, tmp_path / "vectors", form=form)
        assert found_format(tmp_path / "vectors") is form
        assert list(read_vectors(tmp_path / "vectors").words) == with_subwords.words


def test_gloves_text_has_no_first_line_and_may_have_spaces_in_words(tmp_path):
    (tmp_path / "glove.txt").write_text("the 0.5 1\n. -1 2.5\n")
    assert read_vectors(tmp_path / "glove.txt").vectors.tolist() == [[0.5, 1], [-1, 2.5]]
    (tmp_path / "840B.txt").write_text("2 2\nthe 0.5 1\n. . . -1 2.5\n")
    assert list(read_vectors(tmp_path / "840B.txt").words) == ["the", ". . ."]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no word"),
        (b"3 2\na 1 2\nb 1 2\n", "its first line says 3"),
        (b"2 2\na 1 2\nb 1\n", "line 3"),
        (b"a 1 2\nb 1 x\n", "line 2"),
        (b"2 4\na " + b"\x01\x90\xff\x7f" * 4 + b"\nb \x00\x01", "ends within the vector of word 1"),
        (b"2 4\na " + b"\x01\x90\xff\x7f" * 4 + b"\nbcd", "ends within word 1"),
    ],
)
def test_a_damaged_file_is_named_with_the_place(tmp_path, content, words):
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_vectors(tmp_path / "damaged")


def test_a_cut_fasttext_file_is_damage(tmp_path, with_subwords):
    write_vectors(with_subwords, tmp_path / "whole.bin", form=VectorFormat.fasttext)
    whole = (tmp_path / "whole.bin").read_bytes()
    for end in (10, 100, 200, len(whole) // 2):
        (tmp_path / "cut.bin").write_bytes(whole[:end])
        with pytest.raises(DataError, match="gensim cannot read it"):
            read_vectors(tmp_path / "cut.bin")


@pytest.mark.parametrize("word", ["two words", "a\n", ""])
def test_a_word_that_a_format_cannot_hold_is_refused(tmp_path, word):
    with pytest.raises(DataError, match="cannot be written"):
        write_vectors(vectors_of({word: [1.0]}), tmp_path / "file", form=VectorFormat.text)
