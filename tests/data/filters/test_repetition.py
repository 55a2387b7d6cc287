"""Repeated sequences against their definition, spelt out the slow way."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.filters.repetition import DUPLICATE_SIZES, TOP_SIZES, Repetition
from data.filters.words import Vocabulary

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "dddd", "e"]), max_size=60)


def top(words: list[str], size: int) -> int:
    """Characters in the most frequent sequence, the first of those that are equally frequent."""
    counts = Counter(" ".join(words[i : i + size]) for i in range(len(words) - size + 1))
    return max((len(each) * times for each, times in counts.most_common(1)), default=0)


def duplicates(words: list[str], size: int) -> int:
    seen: set[tuple[str, ...]] = set()
    place = characters = 0
    while place <= len(words) - size:
        sequence = tuple(words[place : place + size])
        if sequence in seen:
            characters += sum(map(len, sequence))
            place += size
        else:
            seen.add(sequence)
            place += 1
    return characters


def check(words: list[str]) -> None:
    repetition = Repetition(Vocabulary(splits=False).read(" ".join(words)))
    assert [repetition.characters(size) for size in TOP_SIZES] == [top(words, size) for size in TOP_SIZES]
    assert [repetition.characters(size) for size in DUPLICATE_SIZES] == [
        duplicates(words, size) for size in DUPLICATE_SIZES
    ]


@given(WORDS, st.sampled_from([0, 20, 1 << 30]))
def test_repeated_sequences_are_what_their_definition_says(words, most_counted):
    """By counting and by sorting, whatever the text's length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.filters.repetition.SHORT_PIECES", most_counted)
        check(words)


@given(st.lists(st.sampled_from("ab\u4e2d\u56fd"), max_size=60))
def test_counting_and_sorting_find_the_same_in_scripts_without_spaces(words):
    pieces, found = Vocabulary(splits=True).read(" ".join(words)), []
    for most_counted in (0, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("data.filters.repetition.SHORT_PIECES", most_counted)
            repetition = Repetition(pieces)
        found.append([repetition.characters(size) for size in (*TOP_SIZES, *DUPLICATE_SIZES)])
    assert found[0] == found[1]


@pytest.mark.parametrize("num_kinds", [1, 3, 50])
def test_long_texts_too(num_kinds):
    draw = random.Random(num_kinds)
    check([f"w{draw.randrange(num_kinds)}" for _ in range(3000)])
    check([f"w{i % num_kinds}" for i in range(500)] + [f"x{i}" for i in range(500)])


def test_a_size_can_be_asked_for_alone_and_again():
    pieces = Vocabulary(splits=False).read("a b c d e f " * 10)
    assert Repetition(pieces).characters(8) == Repetition(pieces).characters(8) > 0
    one = Repetition(pieces)
    assert [one.characters(10), one.characters(5), one.characters(2)] == [
        Repetition(pieces).characters(size) for size in (10, 5, 2)
    ]
