"""Neighbours, analogies and similarities, on vectors made by hand and against gensim's own evaluation."""

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from data.errors import DataError
from data.vectors.nearest import Nearest
from data.vectors.scores import read_analogies, read_pairs, score_analogies, score_pairs, spearman
from data.vectors.word_vectors import WordVectors

BY_HAND = {
    "king": [1, 1, 0],
    "man": [1, 0, 0],
    "woman": [1, 0, 1],
    "queen": [1, 1, 1],
    "mill": [-1, 0.1, 0.2],
}
ANALOGIES = ": royal\nman king woman queen\nman woman king queen\n\n: mixed\nmill man king woman\nman king woman duke\n"


@pytest.fixture
def by_hand() -> Nearest:
    return Nearest(WordVectors([*BY_HAND], np.zeros(5, np.int64), np.array([*BY_HAND.values()], np.float32)))


@pytest.fixture(scope="module")
def drawn():
    """Vectors of 200 words, and the same in gensim."""
    words = [f"w{number}" for number in range(200)]
    vectors = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)
    theirs = KeyedVectors(12)
    theirs.add_vectors(words, vectors)
    return Nearest(WordVectors(words, np.zeros(200, np.int64), vectors)), theirs


def test_an_analogy_points_to_the_word_that_completes_it(by_hand):
    assert by_hand.to_analogy("man", "king", "woman", num=1)[0].word == "queen"
    assert by_hand.to_analogy("man", "king", "duchess") == []


def test_the_nearest_are_ordered_and_leave_the_word_out(by_hand):
    found = by_hand.to_word("king")
    assert [each.word for each in found] == ["queen", "man", "woman", "mill"]
    assert found[0].cosine == pytest.approx(2 / 6**0.5)


def test_neighbours_and_analogies_are_gensims(drawn):
    nearest, theirs = drawn
    for pairs, wanted in (
        (nearest.to_word("w7", num=5), theirs.most_similar("w7", topn=5)),
        (nearest.to_analogy("w1", "w2", "w3"), theirs.most_similar(positive=["w2", "w3"], negative=["w1"])),
    ):
        assert [word for word, _ in pairs] == [word for word, _ in wanted]


def test_scores_are_those_of_gensims_evaluation(drawn, tmp_path):
    nearest, theirs = drawn
    chance = np.random.default_rng(1)
    drawn_rows = [chance.choice(200, 3, replace=False).tolist() for _ in range(150)]
    lines = [": one"]
    for place, rows in enumerate(drawn_rows):
        given = [f"w{row}" for row in rows]
        answer = nearest.to_analogy(*given, num=2)[place % 2].word  # every other one is right
        lines.append(" ".join([*given, answer if place % 5 else "unheard"]))
    (tmp_path / "analogies").write_text("\n".join(lines))
    accuracy, _ = theirs.evaluate_word_analogies(str(tmp_path / "analogies"), case_insensitive=False)
    found = score_analogies(nearest, read_analogies(lines, where="x"))
    assert found.accuracy == pytest.approx(accuracy)
    assert 0.3 < accuracy < 0.7
    assert found.unknown == 30
    pairs = [f"w{a}\tw{b}\t{chance.integers(10)}" for a, b in chance.integers(200, size=(90, 2))]
    (tmp_path / "pairs").write_text("\n".join([*pairs, "w1\tunheard\t3"]))
    _, theirs_spearman, _ = theirs.evaluate_word_pairs(str(tmp_path / "pairs"), case_insensitive=False)
    similarity = score_pairs(nearest, read_pairs([*pairs, "w1\tunheard\t3"], where="x"))
    assert similarity.spearman == pytest.approx(theirs_spearman[0])
    assert (similarity.pairs, similarity.unknown) == (90, 1)


def test_right_and_asked_are_counted_by_section(by_hand):
    found = score_analogies(by_hand, read_analogies(ANALOGIES.splitlines(), where="x"))
    assert (found.right, found.asked, found.unknown) == ({"royal": 2}, {"royal": 2, "mixed": 1}, 1)


def test_nothing_known_has_no_score(by_hand):
    assert score_analogies(by_hand, []).accuracy is None
    assert score_pairs(by_hand, read_pairs(["king queen 3"], where="x")).spearman is None


NUMBERS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=40)


@given(pairs=NUMBERS.filter(lambda pairs: all(len(set(each)) > 1 for each in zip(*pairs, strict=True))))
@settings(max_examples=100, deadline=None)
def test_spearman_is_scipys(pairs):
    x, y = np.array(pairs, float).T
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_a_line_that_cannot_be_read_is_named():
    with pytest.raises(DataError, match="line 2"):
        read_analogies([": one", "a b c"], where="file")
    with pytest.raises(DataError, match="line 2"):
        read_pairs(["word1,word2,score", "a,b"], where="file")
    assert read_pairs(["word1,word2,score", "a,b,2.5 # note"], where="file") == [("a", "b", 2.5)]
