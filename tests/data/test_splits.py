from collections import Counter

import pytest

from data.dedup.marks import cluster_of, marked
from data.documents import Document
from data.splits import Split, SplitKey, SplitRules, split_of

DOCUMENTS = [Document(f"file-{k // 3}.jsonl#{k % 3}", "text", f"file-{k // 3}.jsonl") for k in range(6000)]


def sides(rules: SplitRules) -> list[Split]:
    return [split_of(document, rules=rules) for document in DOCUMENTS]


def test_fractions_are_about_as_asked():
    counts = Counter(sides(SplitRules(validation_fraction=0.1, test_fraction=0.05)))
    assert counts[Split.VALIDATION] == pytest.approx(600, abs=100)  # over 4 standard deviations
    assert counts[Split.TEST] == pytest.approx(300, abs=75)


def test_a_fraction_moves_documents_between_its_split_and_train_only():
    few = sides(SplitRules(validation_fraction=0.1, test_fraction=0.1))
    more = sides(SplitRules(validation_fraction=0.2, test_fraction=0.1))
    moved = {(one, other) for one, other in zip(few, more, strict=True) if one is not other}
    assert moved == {(Split.TRAIN, Split.VALIDATION)}


def test_seeds_are_independent_splits():
    one, other = (sides(SplitRules(validation_fraction=0.5, test_fraction=0, seed=seed)) for seed in (0, 1))
    assert sum(a is b for a, b in zip(one, other, strict=True)) == pytest.approx(3000, abs=160)


def test_documents_of_a_file_stay_together_by_source():
    by_source = sides(SplitRules(validation_fraction=0.3, test_fraction=0.3, key=SplitKey.source))
    assert all(len(set(by_source[k : k + 3])) == 1 for k in range(0, 6000, 3))
    by_id = sides(SplitRules(validation_fraction=0.3, test_fraction=0.3))
    assert any(len(set(by_id[k : k + 3])) > 1 for k in range(0, 6000, 3))


def test_a_marked_duplicate_goes_where_the_document_it_duplicates_goes():
    rules = SplitRules(validation_fraction=0.3, test_fraction=0.3)
    for one, other in zip(DOCUMENTS[:300], DOCUMENTS[300:600], strict=True):
        mark = marked(one, other.id)
        assert cluster_of(mark) == cluster_of(other) == other.id
        assert split_of(mark, rules=rules) is split_of(other, rules=rules)


def test_a_mark_leaves_the_rest_of_the_metadata():
    document = Document("a", "text", "source", metadata='{"language":"de","url":"caf\\u00e9"}')
    again = marked(marked(document, "b"), "c")
    assert again.metadata == '{"duplicate_of":"c","language":"de","url":"caf\\u00e9"}'
    assert cluster_of(Document("a", "text", "source", metadata='{"note":"duplicate_of"}')) == "a"


def test_nothing_is_held_out_at_zero():
    assert set(sides(SplitRules(validation_fraction=0, test_fraction=0))) == {Split.TRAIN}


def test_impossible_fractions_are_named():
    assert [p.field for p in SplitRules(validation_fraction=-0.1).problems()] == ["validation_fraction"]
    assert [p.field for p in SplitRules(validation_fraction=0.6, test_fraction=0.4).problems()] == [
        "test_fraction"
    ]
    assert SplitRules().problems() == []
