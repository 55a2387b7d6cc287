import io
from collections import Counter

import pytest

from data.documents import Document, DocumentWriter, document_batches
from data.sampling import SampleRules, fractions, group_bytes, sampled

DOCUMENTS = [
    Document(
        f"{k}", f"{k:05d} " * 20, f"{'web' if k % 3 else 'books'}/{k}.txt", metadata=f'{{"lang":"l{k % 2}"}}'
    )
    for k in range(3000)
]


def batches(documents: list[Document]):
    sink = io.BytesIO()
    with DocumentWriter(sink) as writer:
        for document in documents:
            writer.write(document)
    return lambda: document_batches(io.BytesIO(sink.getvalue()))


def sample(documents: list[Document], rules: SampleRules) -> list[str]:
    read = batches(documents)
    taken = fractions(group_bytes(read(), by=rules.by), rules=rules)
    return [
        text
        for batch in sampled(read(), by=rules.by, taken=taken)
        for text in batch.column("text").to_pylist()
    ]


def test_without_a_limit_every_text_is_taken_in_order():
    assert SampleRules().is_everything
    assert sample(DOCUMENTS, SampleRules()) == [document.text for document in DOCUMENTS]


def test_a_limit_is_kept_about_and_does_not_depend_on_the_order_of_documents():
    rules = SampleRules(max_bytes=60_000)
    texts = sample(DOCUMENTS, rules)
    assert 50_000 < sum(map(len, texts)) < 70_000
    assert sorted(sample(DOCUMENTS[::-1], rules)) == sorted(texts)
    more = set(sample(DOCUMENTS, SampleRules(max_bytes=120_000)))
    assert set(texts) < more


@pytest.mark.parametrize(("by", "groups"), [("source", ("web", "books")), ("lang", ("l0", "l1"))])
def test_weights_shift_a_sample_between_groups(by, groups):
    first, second = groups
    group = {
        document.text: document.source.partition("/")[0] if by == "source" else f"l{int(document.id) % 2}"
        for document in DOCUMENTS
    }
    held = Counter(group.values())
    rules = SampleRules(max_bytes=60_000, by=by, weights={second: 3.0})
    seen = Counter(group[text] for text in sample(DOCUMENTS, rules))
    ratio = (seen[second] / held[second]) / (seen[first] / held[first])
    assert 2.2 < ratio < 4
    without = SampleRules(by=by, weights={first: 0.0})
    assert {group[text] for text in sample(DOCUMENTS, without)} == {second}
    assert len(sample(DOCUMENTS, without)) == held[second]


def test_impossible_rules_are_named():
    assert [p.field for p in SampleRules(max_bytes=0).problems()] == ["max_bytes"]
    assert [p.field for p in SampleRules(weights={"a": 1.0}).problems()] == ["by"]
    assert [p.field for p in SampleRules(by="source", weights={"a": -1.0}).problems()] == ["weights"]
