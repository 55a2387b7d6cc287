from itertools import chain, islice, repeat

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.batches import IGNORED, Span, TrainingBatches
from data.errors import DataError
from data.example_rows import ExampleSequences
from data.packed import Boundaries, PackedSequences

function_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)

# (world_size, micro_batch_size, micro-steps) that share a global batch of 8
SPLITS = [(1, 8, 1), (8, 1, 1), (2, 2, 2), (4, 1, 2), (1, 1, 8)]


def packed(shards, *, seq_len, per_step, seed=0, boundaries=Boundaries.ignore):
    pool = PackedSequences(shards, seq_len=seq_len, boundaries=boundaries)
    return TrainingBatches([pool], sequences_per_step=per_step, seed=seed)


def examples_of(shards, *, seq_len, per_step, seed=0, pad_id=999):
    pool = ExampleSequences(shards, seq_len=seq_len, pad_id=pad_id)
    return TrainingBatches([pool], sequences_per_step=per_step, seed=seed)


def whole_batch(batches, step, split) -> dict[str, np.ndarray]:
    """The global batch put together from what each rank gets, in the order of the batch."""
    world_size, micro_batch_size, num_micro_steps = split
    parts = [
        batches.batch(step, rank=rank, world_size=world_size, micro_step=m, micro_batch_size=micro_batch_size)
        for m in range(num_micro_steps)
        for rank in range(world_size)
    ]
    return {name: _stack([part[name] for part in parts], name) for name in parts[0]}


def _stack(parts: list[np.ndarray], name: str) -> np.ndarray:
    width = max(part.shape[1] for part in parts)
    fill = IGNORED if name == "labels" else 1
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=fill) for part in parts]
    return np.concatenate(padded)


def documents(num_rows: int) -> list[list[int]]:
    return [[*range(1 + 3 * k, 1 + 3 * k + k % 5), 0] for k in range(num_rows)]


@pytest.mark.parametrize("boundaries", list(Boundaries))
@pytest.mark.parametrize("split", SPLITS)
def test_global_batch_is_the_same_for_every_split_of_the_work(write_shards, boundaries, split):
    shards = write_shards(documents(60), documents(30))
    batches = packed(shards, seq_len=6, per_step=8, seed=1, boundaries=boundaries)
    for step in (0, 3, 1000):
        expected, found = whole_batch(batches, step, SPLITS[0]), whole_batch(batches, step, split)
        assert expected.keys() == found.keys()
        assert all(np.array_equal(expected[name], found[name]) for name in expected)


@pytest.mark.usefixtures("small_batches")
def test_an_epoch_gives_every_sequence_once_out_of_the_concatenation(write_shards):
    rows = documents(64)
    shards = write_shards(rows[:40], rows[40:])
    batches = packed(shards, seq_len=5, per_step=1, seed=7)
    flat = list(chain.from_iterable(rows))
    seen = {}
    for step in range(batches.num_sequences):
        batch = batches.batch(step, rank=0, world_size=1, micro_step=0, micro_batch_size=1)
        seen[int(batches.sequence_ids(step)[0])] = batch
    assert sorted(seen) == list(range((len(flat) - 1) // 5))
    for sequence, batch in seen.items():
        assert batch["input_ids"][0].tolist() == flat[sequence * 5 : sequence * 5 + 5]
        assert batch["labels"][0].tolist() == flat[sequence * 5 + 1 : sequence * 5 + 6]


def test_batches_are_contiguous_int64_and_not_views_of_the_file(write_shards):
    batches = packed(write_shards(documents(40)), seq_len=4, per_step=4, seed=0)
    batch = whole_batch(batches, 0, (1, 4, 1))
    for array in batch.values():
        assert array.dtype == np.int64
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_masked_documents_begin_at_the_end_of_text_before_them(write_shards):
    shards = write_shards([[1, 2, 0], [3, 0], [4, 5, 6, 7, 0]])
    batches = packed(shards, seq_len=9, per_step=1, seed=0, boundaries=Boundaries.mask)
    batch = batches.batch(0, rank=0, world_size=1, micro_step=0, micro_batch_size=1)
    assert batch["input_ids"].tolist() == [[1, 2, 0, 3, 0, 4, 5, 6, 7]]
    assert batch["labels"].tolist() == [[2, 0, 3, 0, 4, 5, 6, 7, 0]]
    assert batch["document_ids"].tolist() == [[0, 0, 1, 1, 2, 2, 2, 2, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 0, 1, 2, 3, 4]]


def test_a_step_names_its_documents(write_shards):
    batches = packed(write_shards([[1, 2, 0], [3, 0], [4, 0]]), seq_len=6, per_step=1, seed=0)
    assert batches.document_names(0, limit=9) == ["tokens-00000/0", "tokens-00000/1", "tokens-00000/2"]
    assert batches.document_names(0, limit=2) == ["tokens-00000/0", "tokens-00000/1"]


def test_the_spans_of_a_sequence_are_its_tokens(write_shards):
    shards = write_shards([[1, 2, 0], [3, 0], [4, 5, 6, 7, 0]], [[8, 9, 0]])
    pool = PackedSequences(shards, seq_len=4)
    assert pool.spans(0) == [Span(0, 0, 3), Span(1, 3, 5)]
    assert pool.spans(1) == [Span(1, 4, 5), Span(2, 5, 9)]
    for sequence in range(pool.num_sequences):
        tokens = np.concatenate([shards.tokens.read(span.begin, span.end) for span in pool.spans(sequence)])
        batch = pool.batch(np.array([sequence]))
        assert tokens.tolist() == [*batch["input_ids"][0].tolist(), batch["labels"][0, -1]]


def test_too_little_text_is_a_data_error(write_shards):
    with pytest.raises(DataError, match="do not fill one sequence of 6"):
        packed(write_shards([[1, 2, 3, 4, 5, 0]]), seq_len=6, per_step=1, seed=0)


def test_a_share_outside_of_the_global_batch_is_a_programmers_error(write_shards):
    batches = packed(write_shards(documents(40)), seq_len=4, per_step=4, seed=0)
    with pytest.raises(AssertionError, match="global batch of 4"):
        batches.batch(0, rank=1, world_size=2, micro_step=0, micro_batch_size=3)


@st.composite
def examples(draw):
    """Rows of ids and masks; the first may be anything."""
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        mask = draw(st.lists(st.integers(0, 1), min_size=1, max_size=40))
        rows.append(([*range(1, len(mask)), 0], mask))
    return rows


def naive(row: tuple[list[int], list[int]], seq_len: int) -> tuple[list[int], list[int]]:
    ids, mask = row
    labels = [token if on else IGNORED for token, on in zip(ids[1:], mask[1:], strict=True)]
    return ids[:-1][:seq_len], labels[:seq_len]


@function_fixtures
@given(rows=examples(), seq_len=st.integers(1, 50))
def test_example_batches_are_the_naive_ones_and_lose_no_row_uncounted(write_shards, rows, seq_len):
    shards = write_shards(rows[:5], rows[5:], has_loss_mask=True)
    expected = [naive(row, seq_len) for row in rows]
    kept = [k for k, (_, labels) in enumerate(expected) if any(label != IGNORED for label in labels)]
    if not kept:
        with pytest.raises(DataError, match="has a target"):
            examples_of(shards, seq_len=seq_len, per_step=4, seed=0, pad_id=999)
        return
    batches = examples_of(shards, seq_len=seq_len, per_step=4, seed=0, pad_id=999)
    coverage = batches.pools[0].coverage
    assert (coverage.num_rows, coverage.num_kept) == (len(rows), len(kept))
    assert coverage.num_without_targets == len(rows) - len(kept)
    assert coverage.num_truncated == sum(len(rows[k][0]) - 1 > seq_len for k in kept)
    for step in range(3):
        drawn = [batches.spans(sequence)[1][0].row for sequence in batches.sequence_ids(step).tolist()]
        assert set(drawn) <= set(kept)
        batch = batches.batch(step, rank=0, world_size=1, micro_step=0, micro_batch_size=4)
        assert (batch["labels"] != IGNORED).sum() == batches.num_targets(step)
        assert batch["labels"].shape[1] <= seq_len
        for place, row in enumerate(drawn):
            inputs, labels = expected[row]
            width = batch["labels"].shape[1]
            assert batch["input_ids"][place].tolist() == list(islice(chain(inputs, repeat(999)), width))
            assert batch["labels"][place].tolist() == list(islice(chain(labels, repeat(IGNORED)), width))


def test_example_batches_are_as_wide_as_the_longest_rounded_up(write_shards):
    rows = [([1] * 17 + [0], [0] * 10 + [1] * 8), ([1, 0], [0, 1])]
    shards = write_shards(rows, has_loss_mask=True)
    wide = examples_of(shards, seq_len=100, per_step=2, seed=0, pad_id=1)
    assert whole_batch(wide, 0, (1, 2, 1))["input_ids"].shape == (2, 32)
    narrow = examples_of(shards, seq_len=20, per_step=2, seed=0, pad_id=1)
    assert whole_batch(narrow, 0, (1, 2, 1))["input_ids"].shape == (2, 20)  # never beyond seq_len


@pytest.mark.parametrize("split", SPLITS)
def test_examples_of_a_step_are_the_same_for_every_split_of_the_work(write_shards, split):
    rows = [(list(range(k + 2)), [0] * (k + 1) + [1]) for k in range(20)]
    batches = examples_of(write_shards(rows, has_loss_mask=True), seq_len=64, per_step=8, seed=1, pad_id=1)
    expected, found = whole_batch(batches, 5, SPLITS[0]), whole_batch(batches, 5, split)
    width = found["labels"].shape[1]
    assert np.array_equal(expected["labels"][:, :width], found["labels"])
    assert (expected["labels"][:, width:] == IGNORED).all()


def test_documents_without_a_mask_are_examples_of_which_all_is_target(write_shards):
    batches = examples_of(write_shards([[1, 2, 3, 0]]), seq_len=8, per_step=1, seed=0, pad_id=5)
    batch = batches.batch(0, rank=0, world_size=1, micro_step=0, micro_batch_size=1)
    assert batch["labels"][0].tolist() == [2, 3, 0, *[IGNORED] * 5]
    assert batches.num_targets(0) == 3
