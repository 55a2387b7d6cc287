import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.order import draw, permute


def epoch_order(num_items: int, *, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return permute(np.arange(num_items), num_items=num_items, seed=seed, epoch=epoch)


@given(st.integers(1, 5000), st.integers(0, 2**62), st.integers(0, 1000))
def test_every_item_comes_once_an_epoch(num_items, seed, epoch):
    assert np.array_equal(np.sort(epoch_order(num_items, seed=seed, epoch=epoch)), np.arange(num_items))


@pytest.mark.parametrize("num_items", [99_991, 2**16, 2**16 + 1, 317**2])
def test_permutation_of_awkward_sizes(num_items):
    assert len(np.unique(epoch_order(num_items))) == num_items


def test_one_element_is_the_same_alone_and_among_all():
    order = epoch_order(1001, seed=5, epoch=3)
    alone = [int(permute(np.array([k]), num_items=1001, seed=5, epoch=3)[0]) for k in range(0, 1001, 97)]
    assert alone == order[::97].tolist()


def test_other_seed_and_other_epoch_are_other_orders():
    base = epoch_order(1000)
    for other in (epoch_order(1000, seed=1), epoch_order(1000, epoch=1)):
        assert (base == other).mean() < 0.02  # one fixed point is expected of a random pair


def test_places_far_beyond_any_memory_are_reached():
    num_items = 10**15 + 7
    ids = permute(np.array([0, 1, num_items - 1]), num_items=num_items, seed=1, epoch=0)
    assert len(set(ids.tolist())) == 3
    assert 0 <= ids.min() <= ids.max() < num_items


def test_orders_of_three_items_are_all_about_as_frequent():
    orders = [tuple(epoch_order(3, seed=seed)) for seed in range(3000)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 6
    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # chi-square, 5 degrees of freedom, p = 0.001


def test_items_land_anywhere_and_neighbours_part():
    num_items, bins = 4096, 16
    order = epoch_order(num_items, seed=9)
    table, _, _ = np.histogram2d(np.arange(num_items), order, bins=bins)
    expected = num_items / bins**2
    assert ((table - expected) ** 2 / expected).sum() < 310  # 225 degrees of freedom, p = 0.0001
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.06


@given(st.integers(1, 50), st.integers(1, 70), st.integers(0, 9))
def test_steps_follow_each_other_through_the_epochs(num_items, per_step, step):
    drawn = np.concatenate(
        [draw(s * per_step, count=per_step, num_items=num_items, seed=3) for s in range(step + 1)]
    )
    epochs = [epoch_order(num_items, seed=3, epoch=epoch) for epoch in range(len(drawn) // num_items + 1)]
    assert np.array_equal(drawn, np.concatenate(epochs)[: len(drawn)])


def test_drawn_ids_cannot_be_changed_by_who_reads_them():
    with pytest.raises(ValueError, match="read-only"):
        draw(0, count=4, num_items=10, seed=0)[0] = 1


def test_the_order_is_pinned():
    """A change of these numbers reorders the training data of everyone who resumes: it needs a new stage version."""
    assert epoch_order(10, seed=42).tolist() == PINNED_SMALL
    assert permute(np.arange(4), num_items=10**9, seed=42, epoch=7).tolist() == PINNED_LARGE


PINNED_SMALL = [8, 5, 7, 0, 3, 9, 4, 6, 2, 1]
PINNED_LARGE = [816512439, 668347300, 388467094, 870520157]
