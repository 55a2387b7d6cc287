from hypothesis import given
from hypothesis import strategies as st

from data.contamination import OverlapRules, overlaps, reference_ngrams

QUESTION = "If a train leaves the mill at noon and the river runs at three knots, when does it arrive?"


def found(text: str, *references: list[str], **rules):
    given_rules = OverlapRules(**rules)
    hashes = [reference_ngrams(texts, rules=given_rules)[0] for texts in references]
    return overlaps(text, hashes, rules=given_rules)


def test_a_document_that_quotes_a_reference_is_found_and_the_words_named():
    (overlap,) = found(
        f"Worked examples.\n\n{QUESTION.upper()} Never.".replace("LEAVES ", "LEAVES\n"),
        ["Something else"],
        [QUESTION],
    )
    assert overlap.reference == 1
    assert overlap.ngram == "if a train leaves the mill at noon and the river runs at"
    assert overlap.num_shared == 19 - 12
    assert overlap.num_ngrams == 22 - 12


def test_twelve_words_in_common_are_not_thirteen():
    words = QUESTION.split()
    quoted = " ".join([*words[:12], "something", "else", *words[14:]])
    assert found(quoted, [QUESTION]) == []
    assert found(quoted, [QUESTION], ngram_words=12)


def test_a_long_document_that_only_quotes_is_spared_by_the_fraction():
    text = QUESTION + " " + " ".join(f"word{k}" for k in range(100))
    assert found(text, [QUESTION])
    assert found(text, [QUESTION], min_overlap_fraction=0.05)
    assert found(text, [QUESTION], min_overlap_fraction=0.1) == []


def test_chinese_is_compared_by_characters():
    reference = "水车利用水流的力量推动磨盘转动把谷物磨成面粉这种机器在中国已经使用了两千多年"
    assert found(f"据说{reference[3:26]}很久了", [reference])
    assert found(f"据说{reference[3:22]}很久了", [reference]) == []


def test_a_reference_shorter_than_an_ngram_takes_only_what_says_the_same():
    assert found("three words here and more", ["three words here"]) == []
    assert found("Three words, here!", ["three words here"])[0].ngram == "three words, here"
    assert reference_ngrams(["three words here", QUESTION], rules=OverlapRules())[1] == 1


WORDS = st.lists(st.sampled_from("abc"), max_size=14)


@given(WORDS, st.lists(WORDS, max_size=4), st.integers(1, 3))
def test_overlaps_are_the_ngrams_in_common(words, reference, n):
    def ngrams(words):
        return [tuple(words[k : k + n]) for k in range(max(len(words) - n, 0) + 1)] if words else []

    known = {ngram for each in reference for ngram in ngrams(each)}
    shared = [ngram for ngram in ngrams(words) if ngram in known]
    result = found(" ".join(words), [" ".join(each) for each in reference], ngram_words=n)
    assert [(each.num_shared, each.ngram) for each in result] == (
        [(len(shared), " ".join(shared[0]))] if shared else []
    )


def test_many_reference_texts_are_merged_as_they_come(monkeypatch):
    texts = [f"{k} {k + 1} {k + 2}" for k in range(200)]
    rules = OverlapRules(ngram_words=2)
    whole, _ = reference_ngrams(texts, rules=rules)
    monkeypatch.setattr("data.contamination.HASHES_AT_ONCE", 10)
    again, _ = reference_ngrams(iter(texts), rules=rules)
    assert whole.tolist() == again.tolist() == sorted(set(whole.tolist()))
    assert len(whole) == 201


def test_impossible_rules_are_named():
    wrong = OverlapRules(ngram_words=0, ngram_characters=0, min_overlap_fraction=-1)
    assert [each.field for each in wrong.problems()] == [
        "ngram_words",
        "ngram_characters",
        "min_overlap_fraction",
    ]
    assert OverlapRules().problems() == []
