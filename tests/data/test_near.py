import random
from itertools import combinations

import numpy as np
import pytest

from data.dedup.near import EMPTY, NearRules, band_keys, estimated_similarity, signatures

WORDS = [f"word{k}" for k in range(5000)]


def pair(similarity: float, size: int, chance: random.Random) -> tuple[str, str, float]:
    """Two texts of one-word n-grams, and their exact Jaccard similarity."""
    words = chance.sample(WORDS, 2 * size)
    num_shared = round(2 * size * similarity / (1 + similarity))
    one, other = words[:size], words[:num_shared] + words[size : 2 * size - num_shared]
    chance.shuffle(other)
    exact = len({*one} & {*other}) / len({*one} | {*other})
    return " ".join(one), " ".join(other), exact


def estimates(similarity, size, rules, *, number):
    """Exact similarities of pairs, their signatures on both sides."""
    chance = random.Random(0)
    pairs = [pair(similarity, size, chance) for _ in range(number)]
    one, other, exact = zip(*pairs, strict=True)
    return np.array(exact), signatures(one, rules=rules), signatures(other, rules=rules)


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("size", [12, 300])
def test_signatures_estimate_the_jaccard_similarity(similarity, size):
    rules = NearRules(ngram_words=1)
    exact, one, other = estimates(similarity, size, rules, number=300)
    errors = estimated_similarity(one, other) - exact
    deviation = (similarity * (1 - similarity) / rules.num_permutations) ** 0.5
    assert abs(errors.mean()) < 5 * deviation / 300**0.5
    assert errors.std() < 1.25 * deviation


@pytest.mark.parametrize("similarity", [0.4, 0.65, 0.75, 0.85])
def test_pairs_become_candidates_as_often_as_bands_and_rows_say(similarity):
    rules = NearRules(ngram_words=1)
    exact, one, other = estimates(similarity, 200, rules, number=400)
    met = (band_keys(one, rules=rules) == band_keys(other, rules=rules)).any(axis=1)
    expected = 1 - (1 - exact**rules.num_rows) ** rules.num_bands
    assert met.mean() == pytest.approx(expected.mean(), abs=5 * (0.25 / 400) ** 0.5)


def test_bands_of_real_text_agree_exactly_where_their_values_do(stdlib_documents):
    texts = [document.text[:3000] for document in stdlib_documents]
    texts += [text.replace("self", "this", 3) for text in texts[:10]]
    rules = NearRules(num_bands=20, num_rows=3)
    found = signatures(texts, rules=rules)
    keys, values = band_keys(found, rules=rules), found.reshape(len(texts), 20, 3)
    for one, other in combinations(range(len(texts)), 2):
        assert ((values[one] == values[other]).all(axis=1) == (keys[one] == keys[other])).all()


def test_a_signature_depends_on_its_own_text_alone(stdlib_documents, monkeypatch):
    texts = [document.text for document in stdlib_documents[:8]] + ["", "short", "?"]
    rules = NearRules(num_bands=3, num_rows=2)
    together = signatures(texts, rules=rules)
    assert np.array_equal(together, np.concatenate([signatures([text], rules=rules) for text in texts]))
    monkeypatch.setattr("data.dedup.near.NGRAMS_AT_ONCE", 7)
    assert np.array_equal(together, signatures(texts, rules=rules))


def test_order_and_repeats_of_ngrams_do_not_count_but_the_seed_does():
    rules = NearRules(ngram_words=1)
    one, other = signatures(["a b c d", "d d c b a a"], rules=rules)
    assert np.array_equal(one, other)
    (elsewhere,) = signatures(["a b c d"], rules=NearRules(ngram_words=1, seed=2))
    assert not (one == elsewhere).any()


def test_only_a_text_without_words_has_an_empty_signature():
    found = signatures(["", "?!", "word"], rules=NearRules())
    assert (found == EMPTY).all(axis=1).tolist() == [True, True, False]


def test_chinese_is_compared_by_characters():
    text = "水车利用水流的力量推动磨盘转动,把谷物磨成面粉,这种机器在中国已经使用了两千多年"
    rules = NearRules(ngram_characters=4)
    one, other, third = signatures([text, text.replace("两千", "三千"), text[::-1]], rules=rules)
    assert estimated_similarity(one[None], other[None])[0] > 0.6
    assert estimated_similarity(one[None], third[None])[0] < 0.1


def test_signatures_and_keys_are_pinned():
    """Clusters of a corpus depend on them: another value needs a new stage version."""
    rules = NearRules(num_bands=1, num_rows=2)
    found = signatures(["one two three four five six"], rules=rules)
    assert found.tolist() == [[5293139065608576536, 140861840371792098]]
    assert band_keys(found, rules=rules).tolist() == [[8847743736396118893]]


def test_impossible_rules_are_named():
    wrong = NearRules(ngram_words=0, num_bands=0, num_rows=-1, min_similarity=1.5)
    assert [each.field for each in wrong.problems()] == [
        "ngram_words",
        "num_bands",
        "num_rows",
        "min_similarity",
    ]
    assert NearRules().problems() == []
