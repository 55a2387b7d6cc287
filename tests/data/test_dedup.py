import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.dedup.clusters import Keep, connect, exact_pairs, near_pairs
from data.dedup.exact import DedupRules, content_hash, hash_texts

LOOSE = DedupRules(ignore_whitespace=True, ignore_case=True, ignore_punctuation=True)


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
    """What stays depends on them alone in part: a change of the hash needs a new stage version."""
    assert content_hash("Some  Text.", LOOSE) == content_hash("some text", LOOSE)
    pinned = [[12229497270122305748, 12765205441678166988]]
    assert hash_texts(["Some text"], rules=DedupRules()).tolist() == pinned


KEYS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40)


def columns(keys):
    """Keys and texts of documents numbered from 10, in an order that is not theirs."""
    numbers = np.arange(10, 10 + len(keys), dtype=np.uint64)[::-1]
    table = np.array(keys, np.uint64).reshape(-1, 2)
    return table[:, 0], table[:, 1], numbers


@given(KEYS)
def test_exact_pairs_are_the_first_of_a_text_with_each_other_one(keys):
    first, second, numbers = columns(keys)
    members: dict[tuple[int, int], list[int]] = {}
    for key, number in zip(keys, numbers.tolist(), strict=True):
        members.setdefault(key, []).append(number)
    expected = {(min(each), one) for each in members.values() for one in each if one != min(each)}
    assert set(map(tuple, exact_pairs(first, second, numbers).tolist())) == expected


@given(KEYS)
def test_near_pairs_join_each_text_of_a_key_and_with_the_exact_pairs_every_document(keys):
    first, second, numbers = columns(keys)
    near, exact = near_pairs(first, second, numbers), exact_pairs(first, second, numbers)
    assert len(near) <= len(set(keys))
    assert (near[:, 0] < near[:, 1]).all()
    # Exact copies share all their keys, so here a text of two keys is two texts.
    found = clusters_of([near, exact])
    by_key: dict[int, set[int]] = {}
    for (key, _), number in zip(keys, numbers.tolist(), strict=True):
        by_key.setdefault(key, set()).add(number)
    assert found == {frozenset(each) for each in by_key.values() if len(each) > 1}


def clusters_of(files, keep=Keep.first, lengths=None):
    found = connect([lambda pairs=pairs: pairs for pairs in files], keep=keep, lengths=lengths)
    members: dict[int, set[int]] = {}
    for document, kept in zip(found.documents.tolist(), found.kept.tolist(), strict=True):
        members.setdefault(kept, set()).add(document)
    assert all(kept in each for kept, each in members.items())
    if keep is Keep.first:
        assert all(kept == min(each) for kept, each in members.items())
    assert found.num_dropped == sum(len(each) - 1 for each in members.values())
    return {frozenset(each) for each in members.values()}


def plain_components(pairs):
    """By flooding, a document at a time."""
    beside: dict[int, set[int]] = {}
    for one, other in pairs:
        beside.setdefault(one, set()).add(other)
        beside.setdefault(other, set()).add(one)
    found = set()
    for start in beside:
        reached, waiting = {start}, [start]
        while waiting:
            fresh = beside[waiting.pop()] - reached
            reached |= fresh
            waiting += fresh
        found.add(frozenset(reached))
    return found


PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] < pair[1]))


@given(st.lists(PAIRS, max_size=4))
def test_clusters_are_the_connected_components(files):
    arrays = [np.array(pairs, np.uint64).reshape(-1, 2) for pairs in files]
    assert clusters_of(arrays) == plain_components([pair for pairs in files for pair in pairs])


def test_a_long_chain_in_any_order_is_one_cluster():
    chain = np.column_stack([np.arange(3000), np.arange(1, 3001)]).astype(np.uint64)
    shuffled = np.random.default_rng(0).permutation(chain)
    assert clusters_of(np.array_split(shuffled, 7)) == {frozenset(range(3001))}


@given(PAIRS, st.integers(0, 99))
def test_the_longest_stays_and_of_several_the_first(pairs, seed):
    sizes = np.random.default_rng(seed).integers(0, 3, 31)
    array = np.array(pairs, np.uint64).reshape(-1, 2)
    found = connect([lambda: array], keep=Keep.longest, lengths=lambda numbers: sizes[numbers.astype(int)])
    kept = dict(zip(found.documents.tolist(), found.kept.tolist(), strict=True))
    for cluster in plain_components(pairs):
        best = min(cluster, key=lambda number: (-sizes[number], number))
        assert {kept[number] for number in cluster} == {best}
