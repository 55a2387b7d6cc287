"""Each format and each compression, against what the same rows give as JSON Lines."""

import csv
import io
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather

from data.documents import Document
from data.reading import ReadRules, Reason, TextFormat
from tests.data.outcomes import COMPRESS, kinds, outcomes

WORDS = "Water turns the wheel that turns the stone, and the miller sleeps below his humming roof. "


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda each: not each.isspace())
rows = st.lists(st.fixed_dictionaries({"text": text, "note": text}), min_size=1, max_size=8)


def as_jsonl(table: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table).encode()


def as_csv(table: list[dict], delimiter: str) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(table[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(table)
    return sink.getvalue().encode()


def as_arrow(table: list[dict], new=pa.ipc.new_file) -> bytes:
    sink = io.BytesIO()
    batch = pa.Table.from_pylist(table)
    with new(sink, batch.schema) as writer:
        writer.write_table(batch, max_chunksize=3)
    return sink.getvalue()


def as_feather(table: list[dict]) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(table), sink, compression="zstd")
    return sink.getvalue()


WRITERS = {
    "json": lambda table: json.dumps(table, ensure_ascii=False).encode(),
    "csv": lambda table: as_csv(table, ","),
    "tsv": lambda table: as_csv(table, "\t"),
    "arrow": as_arrow,
    "arrows": lambda table: as_arrow(table, pa.ipc.new_stream),
    "feather": as_feather,
}


@pytest.mark.parametrize("suffix", WRITERS)
@given(rows)
@settings(deadline=None)
def test_every_format_gives_the_same_documents(suffix, table):
    expected = outcomes(as_jsonl(table), "f", format=TextFormat.jsonl)
    found = outcomes(WRITERS[suffix](table), f"f.{suffix}")
    assert [(d.text, d.row, d.metadata) for d in found] == [(d.text, d.row, d.metadata) for d in expected]
    assert [d.id for d in found] == [f"f.{suffix}#{row}" for row in range(len(table))]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize(
    ("suffix", "content", "expected"),
    [
        ("txt", b"One text.\n", ["One text.\n"]),
        ("md", b"# A title\n", ["# A title\n"]),
        ("jsonl", b'{"text": "a"}\n{"text": "b"}', ["a", "b"]),
        ("json", b'[{"text": "a"}, {"text": "b"}]', ["a", "b"]),
        ("csv", b"text\na\nb\n", ["a", "b"]),
        ("tsv", b"n\ttext\n1\ta\n2\tb\n", ["a", "b"]),
    ],
)
def test_every_compression_goes_around_every_plain_format(compression, suffix, content, expected):
    name = f"F.{suffix}.{compression}".upper()
    compress = COMPRESS[compression]
    assert kinds(outcomes(compress(content), name)) == expected
    both = compress(content[:5]) + compress(content[5:])  # members one after another are one file
    assert kinds(outcomes(both, name)) == expected


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_compression_around_what_compresses_within_is_said(compression, suffix):
    (item,) = outcomes(COMPRESS[compression](b"anything"), f"f.{suffix}.{compression}")
    assert item.reason is Reason.UNSUPPORTED


@given(rows, st.integers(1, 40))
@settings(deadline=None)
def test_a_json_array_is_read_the_same_whatever_the_window(table, window):
    content = json.dumps(table, indent=1, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.readers.json_array.WINDOW_BYTES", window)
        assert kinds(outcomes(content, "f.json")) == [row["text"] for row in table]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"text": "alone"}', ["alone"]),
        (b"\xef\xbb\xbf[]", []),
        (b"[ \n ]\n", []),
        (b" ", [Reason.EMPTY]),
        (b'[{"text": "a", "v": NaN}]', ["a"]),
        (b'[{"text": "a"}, 12, "b", null]', ["a", *[Reason.WRONG_TYPE] * 3]),
        (b'[{"text": "a"}, {"text": "b" "c"}, {"text": "d"}]', ["a", Reason.BAD_JSON, "d"]),
        (b'[{"text": "a"}, {"text": "b]},{"}, {oops, [1, "]"]}, {"text": "d"}]', ["a", "b]},{", Reason.BAD_JSON, "d"]),
        (b'[{"text": "a"}, {"text": "\xff"}, {"text": "c"}]', ["a", Reason.INVALID_UTF8, "c"]),
        (b'[{"text": "a"}, {"text": "b"}', ["a", "b", Reason.BAD_JSON]),
        (b'[{"text": "a"}, {"text": "b', ["a", Reason.BAD_JSON]),
        (b'[{"text": "a"} {"text": "b"}]', ["a", Reason.BAD_JSON]),
        (b'{"text": "a"}\n{"text": "b"}\n', ["a", Reason.BAD_JSON]),
        (b'[{"text": "a"},]', ["a", Reason.BAD_JSON]),
        (b'[{"text": "' + b"b" * 300 + b'"}, {"text": "c"}]', [Reason.TOO_LARGE, "c"]),
        (b"[" + b'{"k":[' * 60 + b"1" + b"]}" * 60 + b', {"text": "c"}]', [Reason.TOO_LARGE, "c"]),
        (b"[" * 100_000, [Reason.BAD_JSON]),
        (b'[{"text": "a", "n": ' + b"1" * 5000 + b'}, {"text": "b"}]', [Reason.BAD_JSON, "b"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("window", [1, 7, 1 << 18])
def test_odd_json(content, expected, window, monkeypatch):
    monkeypatch.setattr("data.readers.json_array.WINDOW_BYTES", window)
    limit = 200 if Reason.TOO_LARGE in expected else 1 << 20
    assert kinds(outcomes(content, "f.json", max_document_bytes=limit)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [Reason.EMPTY]),
        (b"text,n\n", []),
        (b"text,n\r\na,1\r\n\r\nb,2", ["a", "b"]),
        (b"text,n\na\nb,2\nc,3,4\n", [Reason.RAGGED_ROW, "b", Reason.RAGGED_ROW]),
        (b'text,n\n"a\nb,""c""",1\nd,2\n', ['a\nb,"c"', "d"]),
        (b'text,n\na,1\n"b,2\nc,3\n', ["a", Reason.BAD_CSV]),
        (b'text,n\n"a"x,1\nb,2\n', [Reason.BAD_CSV, "b"]),
        (b"text,n\na\xff,1\nb,2\n", [Reason.INVALID_UTF8, "b"]),
        (b"text,text\na,b\n", [Reason.BAD_CSV]),
        (b"body,n\na,1\nb,2\n", [Reason.MISSING_FIELD] * 2),
        (b"text,n\n" + b"a" * 300 + b",1\nb,2\n", [Reason.TOO_LARGE, "b"]),
        (b'text,n\n"' + b"a\n" * 150 + b'",1\n', [Reason.TOO_LARGE, Reason.BAD_CSV]),
        (b"text,n\na\x00b,1\n", ["a\x00b"]),
        (b"\xef\xbb\xbftext\na\n", ["a"]),
    ],
)  # fmt: skip
def test_odd_csv(content, expected):
    limit = 200 if Reason.TOO_LARGE in expected else 1 << 20
    found = kinds(outcomes(content, "f.csv", max_document_bytes=limit))
    if (
        expected[-1:] == [Reason.BAD_CSV] and Reason.TOO_LARGE in expected
    ):  # what is left of a cut row is ragged
        found = [reason for reason in found if reason is not Reason.RAGGED_ROW]
    assert found == expected


PAGE = (
    "<html><head><title>t</title>{meta}</head><body><nav><a href='/'>Home</a></nav>"
    "<article><h1>A mill</h1>{body}</article><footer>Imprint</footer></body></html>"
)


def test_of_a_page_the_main_text_is_kept():
    body = "".join(f"<p>Paragraph {k}: {WORDS * 3}</p>" for k in range(5))
    (document,) = outcomes(PAGE.format(meta="", body=body).encode(), "sub/page.html")
    assert document.id == "sub/page.html"
    assert all(f"Paragraph {k}: {WORDS}" in document.text for k in range(5))
    assert "Home" not in document.text
    assert "Imprint" not in document.text
    assert "<p>" not in document.text


def test_a_page_says_its_encoding_and_none_is_guessed():
    body = f"<p>Der Müller schläft. {WORDS * 5}</p>"
    latin = PAGE.format(meta='<meta charset="iso-8859-1">', body=body).encode("latin-1")
    assert "Müller schläft" in kinds(outcomes(latin, "f.htm"))[0]
    assert "Müller schläft" in kinds(outcomes(PAGE.format(meta="", body=body).encode("utf-16"), "f.htm"))[0]
    assert kinds(outcomes(PAGE.format(meta="", body=body).encode("latin-1"), "f.htm")) == [
        Reason.INVALID_UTF8
    ]
    unknown = PAGE.format(meta='<meta charset="klingon">', body=body).encode("latin-1")
    assert kinds(outcomes(unknown, "f.htm")) == [Reason.INVALID_UTF8]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"<html><body></body></html>", Reason.NO_MAIN_TEXT),
        (b"<html><body><script>x()</script><form><input></form></body></html>", Reason.NO_MAIN_TEXT),
        (b"no page at all", Reason.NO_MAIN_TEXT),
        (b"<!-- " + b"x" * 500, Reason.NO_MAIN_TEXT),
    ],
)
def test_a_page_without_main_text_is_counted_with_its_reason(content, reason):
    assert kinds(outcomes(content, "f.html")) == [reason]


def test_lines_of_text_are_documents_where_the_rules_say_so():
    found = outcomes(b"a b\r\n\n c\xff\nd", "f.txt", format=TextFormat.lines)
    assert kinds(found) == ["a b", Reason.INVALID_UTF8, "d"]
    assert [(item.row, item.id) for item in found if isinstance(item, Document)] == [
        (0, "f.txt#0"),
        (3, "f.txt#3"),
    ]


def test_metadata_is_chosen_by_globs():
    content = b'{"text": "a", "url": "u", "meta_x": 1, "meta_y": [2], "k": "7"}'
    chosen = {
        ("*",): '{"k":"7","meta_x":1,"meta_y":[2],"url":"u"}',
        ("url", "meta_*"): '{"meta_x":1,"meta_y":[2],"url":"u"}',
        (): "",
    }
    for globs, expected in chosen.items():
        (document,) = outcomes(content, "f.jsonl", metadata_fields=list(globs))
        assert document.metadata == expected
    table = [{"text": "a", "url": "u", "other": 1}]
    (document,) = outcomes(as_arrow(table), "f.arrow", metadata_fields=["url"])
    assert document.metadata == '{"url":"u"}'


def test_metadata_is_json_even_where_the_row_is_not():
    content = b'{"text": "a", "v": NaN, "w": [Infinity, {"x": -Infinity}], "z": 1.5}'
    (document,) = outcomes(content, "f.jsonl")

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads(document.metadata, parse_constant=refuse)
    assert found == {"v": "NaN", "w": ["Infinity", {"x": "-Infinity"}], "z": 1.5}


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"max_document_bytes": 0}, "max_document_bytes"),
        ({"max_document_bytes": -1}, "max_document_bytes"),
        ({"max_inflation": 0}, "max_inflation"),
        ({"text_field": ""}, "text_field"),
        ({"id_field": "text"}, "id_field"),
    ],
)
def test_rules_that_cannot_be(rules, field):
    assert [problem.field for problem in ReadRules(**rules).problems()] == [field]
    assert ReadRules().problems() == []
