import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Document
from data.files import Root, SourceFile
from data.readers import read_file
from data.reading import ReadRules, Reason, TextFormat
from tests.data.outcomes import counted, kinds, outcomes

# A line of a JSON Lines file, and what it must become.
good = st.text(min_size=1).filter(lambda text: not text.isspace())
lines = st.one_of(
    good.map(lambda text: (json.dumps({"text": text}).encode(), text)),
    st.sampled_from(
        [
            (b'{"text": ', Reason.BAD_JSON),
            (b'{"text": "a"} x', Reason.BAD_JSON),
            (b"[" * 100_000, Reason.BAD_JSON),
            (b'{"text": "\xff"}', Reason.INVALID_UTF8),
            (b'{"text": "\\ud800"}', Reason.INVALID_UTF8),
            (b'{"other": "a"}', Reason.MISSING_FIELD),
            (b'{"text": 3}', Reason.WRONG_TYPE),
            (b'{"text": null}', Reason.WRONG_TYPE),
            (b'["text"]', Reason.WRONG_TYPE),
            (b'{"text": " \\n"}', Reason.EMPTY),
            (b'{"text": "' + b"a" * 200_000 + b'"}', Reason.TOO_LARGE),
        ]
    ),
)


@given(st.lists(lines), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
def test_every_line_of_json_lines_is_a_document_or_a_reason(rows, line_end):
    found = outcomes(line_end.join(line for line, _ in rows), max_document_bytes=150_000)
    assert kinds(found) == [expected for _, expected in rows]
    assert counted(found).num_rows == len(rows)


@given(st.lists(good, min_size=1, max_size=8), st.data())
def test_a_broken_gzip_file_gives_what_comes_before_and_one_reason(texts, data):
    whole = gzip.compress(b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts), mtime=0)
    cut = data.draw(st.integers(1, len(whole) - 1))
    found = outcomes(whole[:cut], "f.jsonl.gz")
    assert kinds(found)[-1] is Reason.CORRUPT_GZIP
    assert kinds(found)[:-1] == texts[: len(found) - 1]
    assert kinds(outcomes(whole, "f.jsonl.gz")) == texts


@given(st.binary(max_size=200), st.sampled_from(["f", "f.txt.gz", "f.jsonl", "f.jsonl.gz", "f.parquet"]))
def test_no_bytes_whatever_raise_or_vanish(content, name):
    counted(outcomes(content, name))
    if content.strip() or not name.endswith("jsonl"):
        assert outcomes(content, name) or name.endswith("jsonl.gz")


def test_one_flipped_byte_of_a_gzip_file_is_never_silent():
    whole = bytearray(gzip.compress(b'{"text": "some text"}\n' * 50, mtime=0))
    for place in range(10, len(whole)):  # beyond the header, some of which means nothing
        whole[place] ^= 0xFF
        assert Reason.CORRUPT_GZIP in kinds(outcomes(bytes(whole), "f.jsonl.gz"))
        whole[place] ^= 0xFF


def test_rows_keep_their_line_number_and_other_fields():
    content = b'{"text": "a", "z": 1, "b": ["\xc3\xa9"]}\n\n{"text": "c", "text_id": "7"}\n'
    first, second = outcomes(content)
    assert (first.id, first.row, first.source) == ("f.jsonl#0", 0, "f.jsonl")
    assert first.metadata == '{"b":["\\u00e9"],"z":1}'
    assert (second.id, second.row) == ("f.jsonl#2", 2)


def test_ids_of_the_rows_own():
    content = b'{"text": "a", "k": 12}\n{"text": "b", "k": "x"}\n{"text": "c"}\n{"text": "d", "k": [1]}'
    found = outcomes(content, id_field="k")
    assert [item.id for item in found[:2]] == ["12", "x"]
    assert kinds(found)[2:] == [Reason.MISSING_FIELD, Reason.WRONG_TYPE]
    assert found[0].metadata == ""


def test_a_text_file_is_one_document_called_as_the_file():
    (document,) = outcomes(b"\xef\xbb\xbfdef f():\r\n    pass\n", "pkg/m.py")
    assert document == Document("pkg/m.py", "def f():\r\n    pass\n", "pkg/m.py")
    assert kinds(outcomes(b"caf\xe9", "m.py")) == [Reason.INVALID_UTF8]
    assert kinds(outcomes(b" \n\t", "m.py")) == [Reason.EMPTY]
    assert kinds(outcomes(b"abcdef", "m.py", max_document_bytes=5)) == [Reason.TOO_LARGE]
    assert kinds(outcomes(gzip.compress(b"abc"), "m.txt.gz")) == ["abc"]


def test_the_format_can_be_said_against_the_suffix():
    assert kinds(outcomes(b'{"text": "a"}', "f.json", format=TextFormat.jsonl)) == ["a"]
    assert kinds(outcomes(b'{"text": "a"}', "f.jsonl", format=TextFormat.text)) == ['{"text": "a"}']


def parquet(columns: dict, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


@given(st.lists(st.one_of(good, st.none(), st.just(" ")), max_size=30), st.integers(1, 7))
def test_parquet_rows_across_row_groups(texts, row_group_size):
    columns = {"text": pa.array(texts, pa.string()), "n": list(range(len(texts)))}
    found = outcomes(parquet(columns, row_group_size=row_group_size), "f.parquet")
    expected = [Reason.MISSING_FIELD if t is None else Reason.EMPTY if t == " " else t for t in texts]
    assert kinds(found) == expected
    assert [item.row for item in found] == list(range(len(texts)))
    assert all(json.loads(item.metadata) == {"n": item.row} for item in found if isinstance(item, Document))


def test_a_broken_row_group_costs_its_own_rows_only():
    texts = [f"text number {k} " * 50 for k in range(30)]
    content = bytearray(
        parquet({"text": texts}, row_group_size=10, compression="snappy", use_dictionary=False)
    )
    column = pq.ParquetFile(io.BytesIO(bytes(content))).metadata.row_group(1).column(0)
    begin = column.data_page_offset
    content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    found = outcomes(bytes(content), "f.parquet")
    assert kinds(found) == [*texts[:10], Reason.CORRUPT_PARQUET, *texts[20:]]
    counters = counted(found)
    assert (counters.num_rows, counters.unreadable[Reason.CORRUPT_PARQUET]) == (30, 10)


def test_parquet_without_the_column_and_with_bytes_that_are_no_text():
    assert kinds(outcomes(parquet({"body": ["a", "b"]}), "f.parquet")) == [Reason.MISSING_FIELD] * 2
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff\xfe"], pa.binary()).buffers())
    assert kinds(outcomes(parquet({"text": broken}), "f.parquet")) == ["ok", Reason.INVALID_UTF8]


def test_a_file_that_cannot_be_opened_is_an_outcome(tmp_path):
    (item,) = read_file(SourceFile("gone.txt", Root(str(tmp_path)), 1), rules=ReadRules())
    assert (item.reason, item.source) == (Reason.UNOPENABLE, "gone.txt")


def test_counters_are_flat_names():
    found = outcomes(b'{"text": "\xc3\xa9"}\n{}\n{\n{')
    expected = {
        "rows": 4,
        "documents": 1,
        "bytes": 2,
        "unreadable/missing_field": 1,
        "unreadable/bad_json": 2,
    }
    assert counted(found).as_dict() == expected


@pytest.mark.parametrize("value", ['"2020-01-01"', "1e999", "123456789012345678901234567890"])
def test_odd_values_beside_the_text_do_not_cost_the_document(value):
    assert kinds(outcomes(f'{{"text": "a", "v": {value}}}'.encode())) == ["a"]
