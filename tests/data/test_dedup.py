import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.dedup import DedupRules, content_hash, hash_texts, keep_masks

LOOSE = DedupRules(ignore_whitespace=True, ignore_case=True, ignore_punctuation=True)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "a ", "A", "d", ""]), max_size=8), max_size=5))
def test_the_first_of_each_text_stays(shards):
    seen: set[str] = set()
    expected = []
    for shard in shards:
        expected.append([])
        for text in shard:
            expected[-1].append(text.strip() not in seen)
            seen.add(text.strip())
    masks, counters = keep_masks([hash_texts(shard, rules=DedupRules()) for shard in shards])
    assert [mask.tolist() for mask in masks] == expected
    assert counters.num_kept == len(seen)
    assert counters.num_documents == counters.num_kept + counters.num_duplicates == sum(map(len, shards))


@given(st.lists(st.integers(0, 300), max_size=400), st.integers(1, 5))
def test_masks_agree_with_a_set_on_many_hashes(values, num_shards):
    keys = np.array([[value * 0x9E3779B97F4A7C15 % 2**64, value % 3] for value in values], np.uint64).reshape(
        -1, 2
    )
    masks, _ = keep_masks(np.array_split(keys, num_shards))
    first = [values.index(value) == place for place, value in enumerate(values)]
    assert np.concatenate(masks).tolist() == first


def test_hashes_differ_in_their_second_half_too():
    keys = np.array([[5, 1], [5, 2], [6, 1], [5, 1]], np.uint64)
    assert keep_masks([keys])[0][0].tolist() == [True, True, True, False]


def test_each_rule_joins_what_it_says_and_no_more():
    def same(one: str, other: str, **rules) -> bool:
        given_rules = DedupRules(**({"ignore_whitespace": False} | rules))
        return content_hash(one, given_rules) == content_hash(other, given_rules)

    assert same("a  b\n", "a b", ignore_whitespace=True)
    assert not same("a  b", "a b")
    assert not same("ab", "a b", ignore_whitespace=True)
    assert same("Stra\u00dfe", "STRASSE", ignore_case=True)
    assert not same("A", "a")
    assert same("a, b!", "a b", ignore_punctuation=True)
    assert not same("a,b", "ab")
    assert same("e\u0301", "\u00e9")


def test_hashes_are_pinned():
    """Masks are merged from hashes of several runs: a change of the hash needs a new stage version."""
    assert content_hash("Some  Text.", LOOSE) == content_hash("some text", LOOSE)
    pinned = [[12229497270122305748, 12765205441678166988]]
    assert hash_texts(["Some text"], rules=DedupRules()).tolist() == pinned
