import io
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Document, DocumentWriter
from data.errors import DataError
from data.shards import TokenFormat, TokenRow, TokenShards, TokenWriter


def row(name: str, ids: list[int]) -> TokenRow:
    return TokenRow(name, "s", 7, np.array(ids, np.uint32))


@pytest.mark.usefixtures("small_batches")
def test_shards_read_as_one_concatenation_without_a_copy(write_shards):
    rows = [[k + 1] * (k % 7) + [0] for k in range(60)]
    shards = write_shards(rows[:25], rows[25:26], rows[26:])
    flat = [token for each in rows for token in each]
    assert len(shards.tokens.pieces) > 3  # several record batches a shard
    assert shards.tokens.read(0, len(flat)).tolist() == flat
    assert (shards.num_rows, shards.num_tokens, shards.num_bytes) == (60, len(flat), 2 * len(flat))
    assert shards.row_starts.tolist() == np.cumsum([0, *map(len, rows)]).tolist()
    assert not any(piece.flags.owndata for piece in shards.tokens.pieces)
    names = (
        [f"tokens-00000/{k}" for k in range(25)]
        + ["tokens-00001/0"]
        + [f"tokens-00002/{k}" for k in range(34)]
    )
    assert [shards.row_name(k) for k in range(60)] == names


@pytest.mark.usefixtures("small_batches")
def test_rows_that_begin_in_a_range_are_those_of_the_whole_list(write_shards):
    rows = [[k + 1] * (k % 7) + [0] for k in range(60)]
    shards = write_shards(rows[:25], rows[25:26], rows[26:])
    starts = shards.row_starts[:-1]
    for begin in range(shards.num_tokens + 3):
        for end in (begin + 1, begin + 2, begin + 40, shards.num_tokens + 9):
            first, found = shards.starts_within(begin, end)
            assert first == int((starts < begin).sum())
            assert found.tolist() == starts[(begin <= starts) & (starts < end)].tolist()


@pytest.mark.parametrize(("vocab_size", "width"), [(256, 2), (65536, 2), (65537, 4)])
def test_ids_are_as_narrow_as_the_vocabulary_allows(write_shards, vocab_size, width):
    shards = write_shards([[vocab_size - 1, 0]], vocab_size=vocab_size)
    assert shards.tokens.pieces[0].dtype == np.dtype(f"u{width}")
    assert shards.tokens.read(0, 2).tolist() == [vocab_size - 1, 0]


@given(st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=30), max_size=30))
def test_same_rows_same_bytes(rows):
    def written() -> bytes:
        sink = io.BytesIO()
        with TokenWriter(sink, token_format=TokenFormat("hash", 1000, 0)) as writer:
            for k, ids in enumerate(rows):
                writer.write(row(str(k), ids))
        return sink.getvalue()

    assert written() == written()


def test_schema_metadata_tells_where_the_ids_come_from(write_shards):
    path = write_shards([[1, 0]]).paths[0]
    schema = pa.ipc.open_file(path.read_bytes()).schema
    expected = {b"eos_id": b"0", b"format_version": b"1", b"tokenizer_hash": b"hash", b"vocab_size": b"1000"}
    assert schema.metadata == expected


def test_tokens_of_another_tokenizer_are_refused(write_shards):
    paths = write_shards([[1, 0]]).paths
    assert TokenShards(paths, tokenizer_hash="hash").num_rows == 1
    with pytest.raises(DataError, match="made by tokenizer hash"):
        TokenShards(paths, tokenizer_hash="another")


def test_shards_of_two_kinds_are_not_read_together(write_shards, tmp_path):
    other = tmp_path / "other.arrow"
    with TokenWriter(other, token_format=TokenFormat("hash2", 1000, 0)) as writer:
        writer.write(row("a", [1, 0]))
    with pytest.raises(DataError, match="disagree"):
        TokenShards([*write_shards([[1, 0]]).paths, other])


def test_an_unfinished_shard_is_refused(tmp_path):
    path = tmp_path / "tokens-00000.arrow"
    writer = TokenWriter(path, token_format=TokenFormat("h", 9, 0))
    writer.write(row("a", [1, 0]))
    error = RuntimeError("killed")
    writer.__exit__(type(error), error, None)  # as a `with` block does that ends in an error
    with pytest.raises(DataError, match="not a whole file"):
        TokenShards([path])


def test_a_truncated_and_a_foreign_file_are_refused(write_shards, tmp_path):
    path = write_shards([[1, 0]] * 50).paths[0]
    whole = path.read_bytes()
    cut = tmp_path / "cut.arrow"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a whole file"):
        TokenShards([cut])
    documents = tmp_path / "documents.arrow"
    with DocumentWriter(documents) as writer:
        writer.write(Document("a", "text", "s"))
    with pytest.raises(DataError, match="not a token shard"):
        TokenShards([documents])


def test_no_shards_and_missing_shards_are_data_errors(tmp_path):
    for paths in ([], [tmp_path / "missing.arrow"]):
        with pytest.raises(DataError):
            TokenShards(paths)


def test_shards_travel_as_their_paths(write_shards):
    shards = write_shards([[1, 2, 0]] * 1000)
    sent = pickle.dumps(shards)
    assert len(sent) < 500
    assert pickle.loads(sent).tokens.read(0, 3).tolist() == [1, 2, 0]


def test_an_empty_shard_is_no_hindrance(write_shards):
    shards = write_shards([], [[1, 0]], [])
    assert (shards.num_rows, shards.num_tokens) == (1, 2)


def test_ids_outside_of_the_vocabulary_are_a_programmers_error(write_shards):
    with pytest.raises(AssertionError, match="outside of the vocabulary"):
        write_shards([[1000, 0]])
