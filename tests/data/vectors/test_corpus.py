"""Words and their neighbours out of token shards, against plain loops."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.shards import TokenFormat, TokenRow, TokenWriter
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer
from data.vectors.cooccurrence import Pairs, count_pairs, parts_of, unit_of
from data.vectors.corpus import Stretch, Vocabulary, control_ids, count_ids, sequences, stretches

TEXTS = ["the mill by the river", "the wheel", "unheard", "the river turns the mill wheel"]
DOCUMENTS = st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(
        TEXTS * 2 + ["other"], rules=TokenizerRules(kind=TokenizerKind.word, vocab_size=20)
    )


@pytest.fixture
def shard(tmp_path, tokenizer):
    form = TokenFormat(tokenizer.hash, tokenizer.vocab_size, tokenizer.eos_id)
    with TokenWriter(tmp_path / "tokens-00000.arrow", token_format=form) as writer:
        for text in [*TEXTS, "zebra crossing"]:
            ids = np.append(tokenizer.encode(text), np.uint32(tokenizer.eos_id))
            writer.write(TokenRow(text, text, len(text), ids))
    return tmp_path / "tokens-00000.arrow"


def stretch_of(documents: list[list[int]]) -> Stretch:
    starts = np.cumsum([0, *map(len, documents[:-1])])
    return Stretch(np.array(sum(documents, []), np.int32), starts)  # noqa: RUF017 - short lists


def test_the_vocabulary_is_what_is_frequent_and_no_control_token(shard, tokenizer):
    counts = count_ids(shard, tokenizer_hash=tokenizer.hash)
    vocabulary = Vocabulary.of(counts, tokenizer, min_count=2)
    assert vocabulary.words[0] == "the"
    assert set(vocabulary.words) == {"the", "mill", "river", "wheel"}
    assert vocabulary.counts.tolist() == [5, 2, 2, 2]
    assert counts[control_ids(tokenizer)].sum() > 0
    assert vocabulary.ids.tolist()[1:] == sorted(vocabulary.ids.tolist()[1:])


def test_sequences_are_the_documents_without_what_is_not_learned(shard, tokenizer):
    vocabulary = Vocabulary.of(count_ids(shard, tokenizer_hash=tokenizer.hash), tokenizer, min_count=2)
    found = [
        [vocabulary.words[row] for row in rows]
        for stretch in stretches(shard, vocabulary.row_of)
        for rows in sequences(stretch, longest=4)
    ]
    assert found == [
        ["the", "mill", "the", "river"],
        ["the", "wheel"],
        ["the", "river", "the", "mill"],
        ["wheel"],
    ]


@given(documents=DOCUMENTS, window=st.integers(1, 5), runs=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_cooccurrences_are_those_of_a_plain_loop(documents, window, runs):
    expected: Counter[tuple[int, int]] = Counter()
    for words in documents:
        for place, word in enumerate(words):
            for distance in range(1, min(window, place) + 1):
                other = words[place - distance]
                expected[word, other] += Fraction(1, distance)
                expected[other, word] += Fraction(1, distance)
    given_ = [stretch_of(documents[start::runs]) for start in range(runs) if documents[start::runs]]
    found = Pairs.summed(
        [
            Pairs.none(),
            *(pairs for each in given_ for pairs in count_pairs([each], num_words=7, window=window)),
        ]
    )
    got = {
        divmod(key, 7): Fraction(n, unit_of(window))
        for key, n in zip(found.keys.tolist(), found.units.tolist(), strict=True)
    }
    assert got == {pair: n for pair, n in expected.items() if pair[0] <= pair[1]}


@given(counts=st.lists(st.integers(1, 1000), min_size=1, max_size=50), pairs=st.integers(1, 500))
@settings(max_examples=60, deadline=None)
def test_parts_hold_every_row_once(counts, pairs):
    ordered = np.array(sorted(counts, reverse=True), np.int64)
    parts = parts_of(ordered, window=3, pairs=pairs)
    assert [row for begin, end in parts for row in range(begin, end)] == list(range(len(counts)))
    keys = np.arange(len(counts) ** 2)
    whole = Pairs(keys, keys)
    cut = [whole.between(*each, num_words=len(counts)) for each in parts]
    assert np.concatenate([each.keys for each in cut]).tolist() == keys.tolist()
