import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.packing import FlatArray, document_columns, num_packed, pack

lengths = st.lists(st.integers(1, 12), min_size=1, max_size=20)


@st.composite
def pieces(draw):
    sizes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=8))
    values = np.arange(1, sum(sizes) + 1, dtype=np.uint16)
    return np.split(values, np.cumsum(sizes)[:-1])


@given(pieces(), st.data())
def test_flat_array_reads_as_the_joined_pieces_do(parts, data):
    flat, joined = FlatArray(parts, dtype=np.uint16), np.concatenate(parts)
    assert len(flat) == len(joined)
    start = data.draw(st.integers(0, len(joined)))
    stop = data.draw(st.integers(start, len(joined)))
    assert flat.read(start, stop).tolist() == joined[start:stop].tolist()


@given(lengths, st.integers(1, 4))
def test_sums_over_rows_that_lie_within_pieces(sizes, rows_per_piece):
    rows = [np.arange(size, dtype=np.uint8) % 2 for size in sizes]
    parts = [np.concatenate(rows[k : k + rows_per_piece]) for k in range(0, len(rows), rows_per_piece)]
    stops = np.cumsum(sizes)
    sums = FlatArray(parts, dtype=np.uint8).sums(stops - sizes, stops)
    assert sums.tolist() == [int(row.sum()) for row in rows]


@given(pieces(), st.integers(1, 7))
def test_packing_is_the_naive_one(parts, seq_len):
    tokens = np.concatenate(parts).tolist()
    expected = [tokens[i : i + seq_len + 1] for i in range(0, len(tokens), seq_len)]
    expected = [row for row in expected if len(row) == seq_len + 1]
    count = num_packed(len(tokens), seq_len=seq_len)
    inputs, labels = pack(FlatArray(parts, dtype=np.uint16), np.arange(count), seq_len=seq_len)
    assert inputs.tolist() == [row[:-1] for row in expected]
    assert labels.tolist() == [row[1:] for row in expected]


@given(lengths, st.integers(1, 9))
def test_each_position_belongs_to_the_document_of_its_target(sizes, seq_len):
    starts = np.concatenate(([0], np.cumsum(sizes)))
    document_of = np.repeat(np.arange(len(sizes)), sizes)  # of each token
    num_sequences = num_packed(len(document_of), seq_len=seq_len)
    targets_from = np.arange(num_sequences) * seq_len + 1
    begins = [starts[(first < starts) & (starts < first + seq_len)] - first for first in targets_from]
    ids, positions = document_columns(begins, seq_len=seq_len)
    for row, first in enumerate(targets_from):
        owners = document_of[first : first + seq_len]
        assert ids[row].tolist() == (np.unique(owners, return_inverse=True)[1]).tolist()
        expected = [list(owners[: t + 1]).count(owners[t]) - 1 for t in range(seq_len)]
        assert positions[row].tolist() == expected
