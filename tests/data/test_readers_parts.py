"""A file in parts gives what it gives whole, wherever it is cut."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.documents import Document
from data.files import Root, SourceFile, local_file
from data.readers import read_file
from data.readers.lines import count_lines
from data.readers.parts import Part, grouped, pieces_of, read_piece, spans_of, survey
from data.reading import ReadRules, Reason, TextFormat


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")

    def written(name: str, content: bytes) -> SourceFile:
        (folder / name).write_bytes(content)
        return local_file(folder / name)

    return written


def in_parts(file: SourceFile, part_bytes: int, rules: ReadRules, survey_bytes: int = 1 << 30) -> list:
    """What the stage does, in this process; and where the parts begin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.readers.parts.SURVEY_BYTES", survey_bytes)
        spans = spans_of([file], rules=rules, part_bytes=part_bytes)
    counts = [survey(span, rules=rules, part_bytes=part_bytes) for span in spans]
    pieces = pieces_of([file], spans, json.loads(json.dumps(counts)))
    return pieces, [outcome for piece in pieces for outcome in read_piece(piece, rules=rules)]


line = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    .map(lambda text: json.dumps({"text": text}).encode()),
    st.sampled_from([b"", b" ", b"{", b'{"text": "\xff"}', b"\r", b'{"text": "' + b"long " * 20 + b'"}', b"\x00" * 9]),
)  # fmt: skip


@given(st.lists(line, max_size=20), st.booleans(), st.integers(1, 200), st.integers(1, 300))
@settings(max_examples=300, deadline=None)
def test_lines_in_parts_of_any_size_are_the_same_documents(write, lines, ends, part_bytes, survey_bytes):
    file = write("f.jsonl", b"\n".join(lines) + b"\n" * ends)
    for text_format in (TextFormat.jsonl, TextFormat.lines):
        rules = ReadRules(format=text_format, max_document_bytes=90)
        pieces, found = in_parts(file, part_bytes, rules, survey_bytes)
        assert found == list(read_file(file, rules=rules))
        assert len(pieces) == max(1, -(-file.num_bytes // part_bytes))
        assert sum(piece.num_bytes for piece in pieces) == file.num_bytes


@given(st.lists(st.binary(max_size=5), max_size=20), st.data())
def test_every_line_begins_in_one_extent(pieces, data):
    content = b"\n".join(pieces)
    cut = data.draw(st.integers(0, len(content)))
    stream = io.BytesIO(content)
    both = count_lines(stream, 0, cut) + count_lines(stream, cut, len(content))
    assert both == count_lines(stream, 0, len(content)) == len(list(io.BytesIO(content)))


def table(num_rows: int) -> pa.Table:
    texts = [None if k % 7 == 3 else f"text {k} " * (k % 5 + 1) for k in range(num_rows)]
    return pa.table({"text": pa.array(texts, pa.string()), "n": list(range(num_rows))})


def columnar(kind: str, rows: pa.Table, at_once: int) -> bytes:
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(rows, sink, row_group_size=at_once)
        return sink.getvalue()
    new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
    options = pa.ipc.IpcWriteOptions(compression="zstd" if kind == "arrow" else None)
    with new(sink, rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=at_once)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows"])
@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 4000))
@settings(deadline=None)
def test_columns_in_parts_of_any_size_are_the_same_documents(write, kind, num_rows, at_once, part_bytes):
    file = write(f"f.{kind}", columnar(kind, table(num_rows), at_once))
    rules = ReadRules()
    pieces, found = in_parts(file, part_bytes, rules)
    whole = list(read_file(file, rules=rules))
    assert found == whole
    assert [item.row for item in whole] == list(range(num_rows))
    if part_bytes == 1:
        assert len(pieces) == max(1, -(-num_rows // at_once))


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_in_parts_says_what_it_says_whole(write, kind, data):
    content = bytearray(columnar(kind, table(40), 7))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file = write(f"f.{kind}", bytes(content))
    _, found = in_parts(file, 1, ReadRules())
    assert found == list(read_file(file, rules=ReadRules()))


def test_rows_of_a_large_batch_are_numbered_through(write):
    file = write("large.arrow", columnar("arrow", table(1000), 1000))
    found = list(read_file(file, rules=ReadRules()))
    assert [item.row for item in found] == list(range(1000))
    assert [item.text for item in found if isinstance(item, Document)] == table(1000)[
        "text"
    ].drop_null().to_pylist()


def test_dictionaries_and_compression_keep_a_file_in_one_piece(write):
    rows = pa.table({"text": pa.array(["a", "b", "a"] * 9).dictionary_encode()})
    file = write("d.arrows", columnar("arrows", rows, 5))
    pieces, found = in_parts(file, 1, ReadRules())
    assert pieces == [file]
    assert [item.text for item in found] == ["a", "b", "a"] * 9
    assert spans_of([write("f.jsonl.gz", b"x" * 99)], rules=ReadRules(), part_bytes=1) == []
    assert spans_of([write("f.csv", b"x" * 99)], rules=ReadRules(), part_bytes=1) == []
    assert spans_of([write("f.txt", b"x" * 99)], rules=ReadRules(), part_bytes=1) == []


def test_a_file_that_is_gone_is_an_outcome_of_one_piece(tmp_path):
    file = SourceFile("gone.jsonl", Root(str(tmp_path)), 1000)
    pieces, found = in_parts(file, 10, ReadRules())
    assert pieces == [file]
    assert [item.reason for item in found] == [Reason.UNOPENABLE]


def test_groups_follow_sizes_and_never_hold_too_many(monkeypatch):
    monkeypatch.setattr("data.readers.parts.MOST_FILES", 3)
    files = [SourceFile(f"{k}", Root("/"), size) for k, size in enumerate([4, 4, 4, 20, 1, 1, 1, 1])]
    sizes = [[piece.num_bytes for piece in group] for group in grouped(files, 10)]
    assert sizes == [[4, 4], [4], [20], [1, 1, 1], [1]]


def test_parts_of_one_file_and_whole_files_keep_their_order(write):
    files = [write("a.txt", b"a"), write("b.jsonl", b'{"text": "b"}\n' * 3), write("c.txt", b"c")]
    rules = ReadRules()
    spans = spans_of(files, rules=rules, part_bytes=14)
    pieces = pieces_of(files, spans, [survey(span, rules=rules, part_bytes=14) for span in spans])
    assert [isinstance(piece, Part) for piece in pieces] == [False, True, True, True, False]
    found = [outcome for piece in pieces for outcome in read_piece(piece, rules=rules)]
    assert all(isinstance(item, Document) for item in found)
    assert [item.id for item in found] == ["a.txt", "b.jsonl#0", "b.jsonl#1", "b.jsonl#2", "c.txt"]


def test_a_stream_that_is_not_whole_says_so_in_one_piece_too(write):
    content = columnar("arrows", table(30), 5)
    for broken in (content[:-8], content + content):
        pieces, found = in_parts(write("f.arrows", broken), 1, ReadRules())
        assert len(pieces) == 1
        assert found[-1].reason is Reason.CORRUPT_ARROW
        assert len(found) == 31
