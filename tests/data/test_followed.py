"""Training on shards while they are being written: the batches are those of one who waited for all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batches import TrainingBatches
from data.errors import DataError
from data.followed import FollowedSequences
from data.mixture import Mixture
from data.order import items_at
from data.packed import Boundaries, PackedSequences
from data.shards import TokenShards


class Shelf:
    """A feed that gives its shards one by one, and remembers how many were asked for."""

    def __init__(self, shards: TokenShards) -> None:
        self.paths, self.asked = shards.paths, 0

    def __len__(self) -> int:
        return len(self.paths)

    def wait(self, number: int):
        assert number == self.asked, "in their order, each once"
        self.asked += 1
        return self.paths[number]


def documents(num_rows: int, first: int = 1) -> list[list[int]]:
    return [[*range(first + 3 * k, first + 3 * k + k % 5), 0] for k in range(num_rows)]


@pytest.fixture
def shards(write_shards) -> TokenShards:
    rows = documents(120)
    return write_shards(*(rows[k : k + 20] for k in range(0, 120, 20)))


def batches_of(pool, **settings_) -> TrainingBatches:
    return TrainingBatches([pool], sequences_per_step=4, seed=5, **settings_)


def batch_at(batches: TrainingBatches, step: int):
    return batches.batch(step, rank=0, world_size=1, micro_step=0, micro_batch_size=4)


@pytest.mark.parametrize("boundaries", list(Boundaries))
@pytest.mark.parametrize("window", [3, 8, 1000])
def test_batches_of_growing_shards_are_those_of_the_whole(shards, boundaries, window):
    shelf = Shelf(shards)
    followed = FollowedSequences(shelf, seq_len=6, boundaries=boundaries)
    growing = batches_of(followed, window=window)
    waited = batches_of(PackedSequences(shards, seq_len=6, boundaries=boundaries), window=window)
    for step in range(30):  # more than two epochs
        found, expected = batch_at(growing, step), batch_at(waited, step)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
        assert growing.num_targets(step) == waited.num_targets(step)
        assert growing.document_names(step, limit=99) == waited.document_names(step, limit=99)


def test_no_more_shards_are_asked_for_than_a_step_needs(shards):
    shelf = Shelf(shards)
    growing = batches_of(FollowedSequences(shelf, seq_len=6), window=4)
    needed = []
    for step in range(6):
        batch_at(growing, step)
        needed.append(shelf.asked)
    assert needed == sorted(needed)
    assert needed[0] < needed[-1] <= len(shelf)
    tokens = (needed[0] - 1) * shards.num_tokens // len(shelf)
    assert tokens <= 4 * 6 + 1 + shards.num_tokens // len(shelf), "the first step needs its window only"


def test_a_followed_source_can_be_asked_for_the_whole(shards):
    followed = FollowedSequences(Shelf(shards), seq_len=6)
    followed.reach(1 << 40)
    assert followed.num_sequences == PackedSequences(shards, seq_len=6).num_sequences
    assert followed.shards.num_bytes == shards.num_bytes
    assert np.array_equal(followed.shards.row_starts, shards.row_starts)


def test_mixed_sources_are_followed_alike(write_shards, tmp_path):
    first = write_shards(documents(60), documents(50))
    (tmp_path / "second").mkdir()
    second = write_shards(documents(40, first=7), documents(70, first=7), folder=tmp_path / "second")
    mixture = Mixture([50, 30], seed=5)

    def mixed(pools):
        return TrainingBatches(pools, sequences_per_step=4, seed=5, window=6, mixture=mixture)

    growing = mixed([FollowedSequences(Shelf(each), seq_len=5) for each in (first, second)])
    waited = mixed([PackedSequences(each, seq_len=5) for each in (first, second)])
    for step in range(20):
        assert growing.sequence_ids(step).tolist() == waited.sequence_ids(step).tolist()
        found, expected = batch_at(growing, step), batch_at(waited, step)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_too_little_text_is_said_when_all_of_it_is_there(write_shards):
    shelf = Shelf(write_shards([[1, 0]], [[2, 0]]))
    with pytest.raises(DataError, match="4 tokens do not fill one sequence of 6"):
        FollowedSequences(shelf, seq_len=6)
    assert shelf.asked == 2


def test_a_shard_of_another_kind_is_refused_when_it_comes(write_shards, tmp_path):
    first = write_shards(documents(30))
    (tmp_path / "other").mkdir()
    other = write_shards(documents(30), folder=tmp_path / "other", vocab_size=900)
    with pytest.raises(DataError, match="the shards disagree"):
        first.add(other.paths)


@settings(max_examples=80)
@given(
    num_items=st.integers(1, 200),
    more=st.integers(0, 300),
    window=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_a_window_keeps_its_items_and_whole_windows_do_not_change(num_items, more, window, seed):
    places = np.arange(2 * num_items)
    found = items_at(places, num_items=num_items, seed=seed, window=window)
    for epoch in range(2):
        here = found[epoch * num_items : (epoch + 1) * num_items]
        for first in range(0, num_items, window):
            last = min(first + window, num_items)
            assert sorted(here[first:last].tolist()) == list(range(first, last))
    whole = num_items // window * window
    later = items_at(places[:whole], num_items=num_items + more, seed=seed, window=window)
    assert np.array_equal(found[:whole], later)


def test_windows_and_epochs_are_shuffled_differently():
    drawn = items_at(np.arange(400), num_items=200, seed=1, window=100)
    parts = [tuple(drawn[k : k + 100] % 100) for k in range(0, 400, 100)]
    assert len(set(parts)) == 4
    assert all(part != tuple(range(100)) for part in parts)
