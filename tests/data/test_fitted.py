import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import fitted, ipc
from data.batches import IGNORED
from data.errors import DataError
from data.fitted import Fit, FittedSequences, best_fit
from data.packed import Boundaries

function_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def one_by_one(lengths: list[int], capacity: int) -> int:
    """Bins that best-fit decreasing opens, piece by piece."""
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [free for free in room if free >= length]
        best = min(fitting, default=capacity)
        if fitting:
            room.remove(best)
        room.append(best - length)
    return len(room)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=200))
def test_no_bin_overflows_and_as_many_are_opened_as_piece_by_piece(lengths):
    bins = best_fit(np.array(lengths), 30)
    filled = np.bincount(bins, weights=lengths)
    assert filled.max() <= 30
    assert filled.min() > 0, "bins are numbered without a gap"
    assert len(filled) == one_by_one(lengths, 30)


def test_many_pieces_are_fitted_tightly():
    lengths = np.random.default_rng(0).integers(1, 2049, size=50_000)
    bins = best_fit(lengths, 2048)
    assert lengths.sum() / ((bins.max() + 1) * 2048) > 0.99


def test_windows_of_pieces_leave_next_to_no_room(write_shards, monkeypatch):
    monkeypatch.setattr(ipc, "BATCH_ROWS", 500)
    lengths = np.random.default_rng(0).integers(2, 257, size=6_000)
    shards = write_shards([[1] * length for length in lengths])
    fills = []
    for window in (2_000, fitted.WINDOW_PIECES):
        monkeypatch.setattr(fitted, "WINDOW_PIECES", window)
        fills.append(FittedSequences(shards, seq_len=256).fill)
    assert 0.98 < fills[0] < fills[1]


def test_a_temporary_folder_without_room_is_named(write_shards):
    shards = write_shards([[1, 2, 0]] * 2_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DataError, match="cannot be kept: File too large") as caught:
            FittedSequences(shards, seq_len=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path(caught.value.where).is_dir()
    assert "TMPDIR" in caught.value.do


@st.composite
def rows(draw):
    return [[*range(1, n), 0] for n in draw(st.lists(st.integers(1, 40), min_size=1, max_size=12))]


@pytest.mark.parametrize("window", [1, fitted.WINDOW_PIECES])
@function_fixtures
@given(rows=rows(), seq_len=st.integers(1, 20), fit=st.sampled_from(Fit))
def test_every_token_but_a_documents_first_is_a_target_once(
    write_shards, monkeypatch, rows, seq_len, fit, window
):
    monkeypatch.setattr(fitted, "WINDOW_PIECES", window)
    monkeypatch.setattr(ipc, "BATCH_ROWS", 3)
    shards = write_shards(rows[:4], rows[4:])
    if max(map(len, rows)) == 1:
        with pytest.raises(DataError, match="a token to learn"):
            FittedSequences(shards, seq_len=seq_len, fit=fit)
        return
    pool = FittedSequences(shards, seq_len=seq_len, fit=fit, boundaries=Boundaries.mask)
    batch = pool.batch(np.arange(pool.num_sequences))
    targets = sorted(batch["labels"][batch["labels"] != IGNORED].tolist())
    assert targets == sorted(token for row in rows for token in row[1:])
    assert pool.num_targets(np.arange(pool.num_sequences)) == len(targets)
    assert pool.fill == pytest.approx(len(targets) / batch["labels"].size)
    pieces = sum(-(-(len(row) - 1) // seq_len) for row in rows)
    spans = [span for k in range(pool.num_sequences) for span in pool.spans(k)]
    assert len(spans) == pieces
    for row, begin, end in spans:
        assert shards.row_starts[row] <= begin < end <= shards.row_starts[row + 1]
    if fit is Fit.one:
        assert pool.num_sequences == pieces


def test_documents_are_whole_beside_each_other_and_padding_stands_alone(write_shards):
    shards = write_shards([[1, 2, 3, 0], [4, 5, 0], [6, 0]])
    pool = FittedSequences(shards, seq_len=8, boundaries=Boundaries.mask)
    batch = pool.batch(np.array([0]))
    assert pool.num_sequences == 1
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 0, 0]]
    assert batch["labels"].tolist() == [[2, 3, 0, 5, 0, 0, IGNORED, IGNORED]]
    assert batch["document_ids"].tolist() == [[0, 0, 0, 1, 1, 2, 3, 3]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 0, 1]]


def test_a_document_longer_than_a_sequence_is_cut_into_pieces_that_share_a_token(write_shards):
    pool = FittedSequences(write_shards([[1, 2, 3, 4, 5, 6, 0]]), seq_len=4, fit=Fit.one)
    batch = pool.batch(np.array([0, 1]))
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert batch["labels"].tolist() == [[2, 3, 4, 5], [6, 0, IGNORED, IGNORED]]
