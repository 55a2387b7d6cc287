"""Separated values by the block and row by row: the same outcomes, in the same words, whatever the bytes."""

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.readers import blocks
from data.reading import ReadRules, Reason, row_document, string_rows
from tests.data.outcomes import counted, kinds, outcomes

PARTS = st.sampled_from(
    [b'"', b'""', b",", b"\t", b"\n", b"\r\n", b"\r", b"a", b" ", b"\x00", b"\xff", b"word", "\u00e9".encode(),
     b"\xef\xbb\xbf", b'"a,\nb"', b'"x""y"', b'"\r\n"', b"a,b\n", b'"a","b"\r\n', b'a,"b\n\nc"\n', b'"",\n']
)  # fmt: skip
CONTENT = st.lists(PARTS, max_size=60).map(b"".join)
HEADERS = st.sampled_from(
    [b"text\n", b"text,n\n", b"n\ttext\r\n", b'\xef\xbb\xbf"text","n"\r\n', b'"te\nxt",text\n']
)


def found(content: bytes, name: str, *, block: int | None, **rules) -> list:
    """By blocks of so many bytes, or row by row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", block or 1)
        patch.setattr("data.readers.separated.BLOCK_BYTES", 0 if block else 1 << 60)
        return outcomes(content, name, **rules)


@given(HEADERS, CONTENT, st.sampled_from([1, 2, 7, 40, 1 << 20]), st.sampled_from(["f.csv", "f.tsv"]))
@settings(deadline=None, max_examples=400)
def test_blocks_and_rows_give_the_same(header, content, block, name):
    assert found(header + content, name, block=block) == found(header + content, name, block=None)


CELLS = st.text('a,"\n\u00e9 ', max_size=9)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=20)


@given(
    ROWS,
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 99),
)
@settings(deadline=None)
def test_what_the_csv_module_writes_is_read_as_it_was(rows, quoting, line_end, block):
    sink = io.StringIO()
    csv.writer(sink, quoting=quoting, lineterminator=line_end).writerows([["text", "id"], *rows])
    read = found(sink.getvalue().encode(), "f.csv", block=block, id_field="id")
    expected = [(text, doc_id) if text.strip() else Reason.EMPTY for text, doc_id in rows]
    assert [(item.text, item.id) if hasattr(item, "text") else item.reason for item in read] == expected


@pytest.mark.parametrize("num_rows", [3, 20_000])
def test_an_archive_that_breaks_gives_as_many_rows_by_the_block(num_rows):
    rows = b"".join(b'%d,"a ""word"" of row\n%d"\r\n' % (row, row * row) for row in range(num_rows))
    whole = gzip.compress(b"n,text\r\n" + rows, mtime=0)
    for content in (whole[: len(whole) * 2 // 3], whole[:-1], whole + b"garbage"):
        by_block = found(content, "f.csv.gz", block=1 << 17)
        assert by_block == found(content, "f.csv.gz", block=None)
        assert kinds(by_block)[-1] is Reason.CORRUPT_GZIP


def test_a_bad_row_among_many_costs_itself_alone():
    rows = [b'%d,"text, number ""%d"""\n' % (row, row) for row in range(30_000)]
    rows[7_000], rows[20_000], rows[29_999] = b'1,"a"b\n', b"1,\xff\n", b"1,2,3\n"
    read = found(b"n,text\n" + b"".join(rows), "f.csv", block=blocks.BLOCK_BYTES)
    bad = {item.row: item.reason for item in read if hasattr(item, "reason")}
    assert bad == {7_000: Reason.BAD_CSV, 20_000: Reason.INVALID_UTF8, 29_999: Reason.RAGGED_ROW}
    assert counted(read).num_documents == 29_997
    assert [item.row for item in read] == list(range(30_000))


@given(
    st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=4).flatmap(
        lambda header: st.tuples(
            st.just(header), st.lists(st.text(), min_size=len(header), max_size=len(header))
        )
    ),
    st.data(),
)
@settings(deadline=None)
def test_rows_of_strings_become_the_documents_of_any_rows(row, data):
    header, values = row
    fields = [*header, "other"]
    text_field = data.draw(st.sampled_from(fields))
    id_field = data.draw(st.sampled_from([None, *(field for field in fields if field != text_field)]))
    globs = data.draw(st.sampled_from([["*"], [], [header[0]], ["[a-m]*", "\u00e9"]]))
    rules = ReadRules(text_field=text_field, id_field=id_field, metadata_fields=globs)
    expected = row_document(dict(zip(header, values, strict=True)), source="f.csv", row=3, rules=rules)
    assert string_rows(header, source="f.csv", rules=rules)(values, 3) == expected
