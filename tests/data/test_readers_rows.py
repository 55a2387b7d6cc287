"""Good and bad rows in any order: each is the document or the reason that it must be, and none is missing."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.reading import Reason
from tests.data.outcomes import counted, kinds, outcomes

LIMIT = 2000
good = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: not text.isspace()
)


def check(content: bytes, name: str, expected: list) -> None:
    found = outcomes(content, name, max_document_bytes=LIMIT)
    assert kinds(found) == expected
    assert [item.row for item in found] == list(range(len(expected)))
    assert counted(found).num_rows == len(expected)


elements = st.one_of(
    good.map(lambda text: (json.dumps({"text": text}, ensure_ascii=False).encode(), text)),
    st.sampled_from(
        [
            (b'{"text": nothing}', Reason.BAD_JSON),
            (b'{"text": "a" "b", "c": [1, 2, "]}"]}', Reason.BAD_JSON),
            (b'{"text": "tab\tin it"}', Reason.BAD_JSON),
            (b'{"text": "\xff, \xfe]"}', Reason.INVALID_UTF8),
            (b'{"text": "\\ud800"}', Reason.INVALID_UTF8),
            (b'{"other": {"text": "a"}}', Reason.MISSING_FIELD),
            (b'{"text": ["a"]}', Reason.WRONG_TYPE),
            (b"[]", Reason.WRONG_TYPE),
            (b"NaN", Reason.WRONG_TYPE),
            (b'{"text": " \\n"}', Reason.EMPTY),
            (b'{"text": "' + b"a, ]} " * LIMIT + b'"}', Reason.TOO_LARGE),
        ]
    ),
)


@given(st.lists(elements), st.sampled_from([b",", b", ", b" ,\n\t"]), st.integers(1, 5000))
@settings(deadline=None)
def test_every_element_of_a_json_array(rows, comma, window):
    content = b"[" + comma.join(element for element, _ in rows) + b"]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.readers.json_array.WINDOW_BYTES", window)
        check(content, "f.json", [expected for _, expected in rows])


def quoted(*fields: str) -> bytes:
    sink = io.StringIO()
    csv.writer(sink, quoting=csv.QUOTE_ALL).writerow(fields)
    return sink.getvalue().encode()


records = st.one_of(
    good.map(lambda text: (quoted(text, "1"), text)),
    st.sampled_from(
        [
            (b"only one\n", Reason.RAGGED_ROW),
            (b"a,b,c\r\n", Reason.RAGGED_ROW),
            (b'"a"b,1\n', Reason.BAD_CSV),
            (b"\xff,1\n", Reason.INVALID_UTF8),
            (b" ,1\n", Reason.EMPTY),
            (b'"",1\n', Reason.EMPTY),
            (b"a" * (LIMIT + 10) + b",1\n", Reason.TOO_LARGE),
        ]
    ),
)


@given(st.lists(records))
@settings(deadline=None)
def test_every_row_of_separated_values(rows):
    check(b"text,n\n" + b"".join(row for row, _ in rows), "f.csv", [expected for _, expected in rows])


cells = st.one_of(
    good.map(lambda text: (text.encode(), text)),
    st.sampled_from(
        [
            (None, Reason.MISSING_FIELD),
            (b"\xc3", Reason.INVALID_UTF8),
            (b" ", Reason.EMPTY),
            (b"a" * (LIMIT + 1), Reason.TOO_LARGE),
        ]
    ),
)


@pytest.mark.parametrize("name", ["f.parquet", "f.arrow", "f.arrows"])
@given(st.lists(cells, max_size=30), st.integers(1, 9))
@settings(deadline=None)
def test_every_row_of_columns(name, rows, at_once):
    values = pa.array([value for value, _ in rows], pa.binary())
    table = pa.table({"n": list(range(len(rows))), "text": values.view(pa.string())})
    sink = io.BytesIO()
    if name == "f.parquet":
        pq.write_table(table, sink, row_group_size=at_once)
    else:
        new = pa.ipc.new_file if name == "f.arrow" else pa.ipc.new_stream
        with new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=at_once)
    check(sink.getvalue(), name, [expected for _, expected in rows])
