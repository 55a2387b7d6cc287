import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.batches import IGNORED
from data.errors import DataError
from data.heldout import EvalExamples, EvalSequences
from data.packed import Boundaries

function_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def all_batches(held_out, *, world_size: int, micro_batch_size: int) -> list[dict[str, np.ndarray]]:
    num_batches = held_out.num_batches(world_size=world_size, micro_batch_size=micro_batch_size)
    return [
        held_out.batch(index, rank=rank, world_size=world_size, micro_batch_size=micro_batch_size)
        for index in range(num_batches)
        for rank in range(world_size)
    ]


@function_fixtures
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    seq_len=st.integers(1, 24),
    world_size=st.integers(1, 3),
    micro_batch_size=st.integers(1, 4),
)
def test_every_token_is_a_target_once_and_follows_the_one_before_it(
    write_shards, sizes, seq_len, world_size, micro_batch_size
):
    rows = [[*range(1, size), 0] for size in sizes]
    shards = write_shards(rows[:3], rows[3:])
    flat = [token for row in rows for token in row]
    held_out = EvalSequences(shards, seq_len=seq_len)
    batches = all_batches(held_out, world_size=world_size, micro_batch_size=micro_batch_size)
    labels = np.concatenate([batch["labels"].ravel() for batch in batches])
    inputs = np.concatenate([batch["input_ids"].ravel() for batch in batches])
    is_target = labels != IGNORED
    assert labels[is_target].tolist() == flat
    assert inputs[is_target].tolist() == [0, *flat[:-1]]  # the first token follows an end of text
    assert is_target.sum() == held_out.num_targets
    assert held_out.num_bytes == 2 * len(flat)
    assert {batch["labels"].shape for batch in batches} == {(micro_batch_size, seq_len)}


def test_masked_documents_are_scored_each_from_its_own_beginning(write_shards):
    held_out = EvalSequences(write_shards([[1, 2, 0], [3, 0], [4, 0]]), seq_len=5, boundaries=Boundaries.mask)
    batch = held_out.batch(0, rank=0, world_size=1, micro_batch_size=2)
    assert batch["input_ids"].tolist()[0] == [0, 1, 2, 0, 3]
    assert batch["labels"].tolist()[0] == [1, 2, 0, 3, 0]
    assert batch["document_ids"].tolist()[0] == [0, 0, 0, 1, 1]
    assert batch["position_ids"].tolist()[0] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(("world_size", "micro_batch_size"), [(1, 2), (2, 2), (3, 1)])
def test_each_example_is_scored_once(write_shards, world_size, micro_batch_size):
    rows = [([5, k + 1, 0], [0, 1, 1]) for k in range(7)] + [([5, 0], [1, 0])]
    held_out = EvalExamples(write_shards(rows, has_loss_mask=True), seq_len=8, pad_id=1)
    batches = all_batches(held_out, world_size=world_size, micro_batch_size=micro_batch_size)
    targets = [row[row != IGNORED].tolist() for batch in batches for row in batch["labels"]]
    assert [row for row in targets if row] == [[k + 1, 0] for k in range(7)]
    assert held_out.num_targets == 14
    assert held_out.coverage.num_without_targets == 1


def test_nothing_held_out_is_a_data_error(write_shards):
    with pytest.raises(DataError, match="no held-out token"):
        EvalSequences(write_shards([]), seq_len=8)
