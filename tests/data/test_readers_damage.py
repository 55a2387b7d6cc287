"""Damage of every kind: rows in = documents + the sum of unreadable by reason, and nothing goes without a word."""

import csv
import io
import json
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.documents import Document
from data.reading import Reason
from tests.data.outcomes import COMPRESS, kinds, outcomes

TEXTS = [
    f"Text number {k}: the water turns the wheel, and the wheel turns {k * k} stones." for k in range(30)
]
CORRUPT = {
    "gz": Reason.CORRUPT_GZIP,
    "bz2": Reason.CORRUPT_BZ2,
    "xz": Reason.CORRUPT_XZ,
    "zst": Reason.CORRUPT_ZST,
}


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def separated(texts: list[str]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows([["text"], *([text] for text in texts)])
    return sink.getvalue().encode()


def arrow(texts: list[str], new=pa.ipc.new_file) -> bytes:
    sink, rows = io.BytesIO(), pa.table({"text": texts})
    with new(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=7)
    return sink.getvalue()


def parquet(texts: list[str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink, row_group_size=7, write_page_checksum=False)
    return sink.getvalue()


WHOLE = {
    "f.jsonl": jsonl(TEXTS),
    "f.json": json.dumps([{"text": text} for text in TEXTS]).encode(),
    "f.csv": separated(TEXTS),
    "f.arrow": arrow(TEXTS),
    "f.arrows": arrow(TEXTS, pa.ipc.new_stream),
    "f.parquet": parquet(TEXTS),
    **{f"f.jsonl.{suffix}": compress(jsonl(TEXTS)) for suffix, compress in COMPRESS.items()},
}


@pytest.mark.parametrize("suffix", COMPRESS)
@given(data=st.data())
@settings(deadline=None)
def test_a_truncated_archive_gives_what_comes_before_and_one_reason(suffix, data):
    whole = WHOLE[f"f.jsonl.{suffix}"]
    assert kinds(outcomes(whole, f"f.jsonl.{suffix}")) == TEXTS
    found = kinds(outcomes(whole[: data.draw(st.integers(0, len(whole) - 1))], f"f.jsonl.{suffix}"))
    assert found[-1] is CORRUPT[suffix]
    assert found[:-1] == TEXTS[: len(found) - 1]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_garbage_behind_an_archive_is_damage_and_not_padding(suffix):
    whole = WHOLE[f"f.jsonl.{suffix}"]
    assert kinds(outcomes(whole + b"garbage", f"f.jsonl.{suffix}"))[-1] is CORRUPT[suffix]
    second = bytearray(whole)
    second[0] ^= 0xFF
    assert kinds(outcomes(whole + bytes(second), f"f.jsonl.{suffix}"))[-1] is CORRUPT[suffix]
    if suffix != "zst":  # whose frames are followed by frames alone
        assert kinds(outcomes(whole + b"\0" * 8, f"f.jsonl.{suffix}")) == TEXTS


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_one_flipped_byte_of_an_archive_with_checksums_is_never_silent(suffix):
    """zstd's checksum is optional, and Arrow's writer leaves it out."""
    whole = bytearray(WHOLE[f"f.jsonl.{suffix}"])
    for place in range(10, len(whole)):
        whole[place] ^= 0xFF
        found = set(kinds(outcomes(bytes(whole), f"f.jsonl.{suffix}")))
        assert found & {CORRUPT[suffix], Reason.INFLATES}, place
        whole[place] ^= 0xFF


@pytest.mark.parametrize("suffix", COMPRESS)
def test_an_archive_that_inflates_a_thousandfold_is_read_no_further(suffix):
    content = COMPRESS[suffix](b" " * 30_000_000)
    inflation = 30_000_000 // len(content)
    assert inflation > 900
    (item,) = outcomes(content, f"f.txt.{suffix}", max_inflation=500)
    assert item.reason is Reason.INFLATES
    assert "max_inflation" in item.detail
    assert kinds(outcomes(content, f"f.txt.{suffix}", max_inflation=inflation + 1)) == [Reason.EMPTY]
    small = COMPRESS[suffix](b'{"text": "a"}\n' * 70_000)
    assert len(outcomes(small, f"f.jsonl.{suffix}", max_inflation=1)) == 70_000  # under a MiB is no bomb


def test_a_row_group_that_inflates_a_thousandfold_is_not_unpacked():
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a" * 5_000_000]}), sink, compression="zstd", use_dictionary=False)
    assert kinds(outcomes(sink.getvalue(), "f.parquet", max_inflation=900)) == [Reason.INFLATES]
    assert kinds(outcomes(sink.getvalue(), "f.parquet", max_inflation=100_000)) == ["a" * 5_000_000]


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_done_to_a_file_every_row_is_counted(name, data):
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(content) - 1)))
        match data.draw(st.sampled_from(["cut", "flip", "insert", "drop", "zero"])):
            case "cut":
                del content[place:]
            case "flip" if content:
                content[place] ^= data.draw(st.integers(1, 255))
            case "insert":
                content[place:place] = data.draw(st.binary(min_size=1, max_size=9))
            case "drop":
                del content[place : place + data.draw(st.integers(1, 40))]
            case "zero":
                content[place : place + 20] = b"\0" * len(content[place : place + 20])
    found = outcomes(bytes(content), name)
    num_rows = sum(1 if isinstance(item, Document) else item.num_rows for item in found)
    is_damaged = any(not isinstance(item, Document) for item in found)
    if name == "f.parquet" and kinds(found) != [Reason.CORRUPT_PARQUET]:
        assert (
            num_rows == len(TEXTS) or content[-500:] != WHOLE[name][-500:]
        )  # a whole footer counts them all
    if name in ("f.jsonl.gz", "f.jsonl.bz2", "f.jsonl.xz") and content and not is_damaged:
        assert kinds(found) == TEXTS * (len(found) // len(TEXTS))


@pytest.mark.parametrize("name", ["f.txt", "f.html", "f.json", "f.csv", "f.tsv", "f.arrow", "f.arrows", "f.feather",
                                  "f.jsonl.bz2", "f.csv.xz", "f.json.zst"])  # fmt: skip
@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_bytes_whatever_raise(name, content):
    found = outcomes(content, name)
    assert found or not content.strip() or name.endswith("sv") or content.strip(b"\0 \t\r\n")[:1] == b"["


def test_nul_bytes_are_counted_in_json_and_kept_in_text_that_is_valid():
    assert kinds(outcomes(b"\x00" * 500 + b'\n{"text": "a"}\n', "f.jsonl")) == [Reason.BAD_JSON, "a"]
    assert kinds(outcomes(b'{"text": "a\\u0000b"}', "f.jsonl")) == ["a\x00b"]
    assert kinds(outcomes(b"a\x00b", "f.txt")) == ["a\x00b"]
    assert kinds(outcomes("text in UTF-16".encode("utf-16"), "f.txt")) == [Reason.INVALID_UTF8]


def test_encodings_mixed_in_one_file_cost_their_own_rows():
    lines = [
        json.dumps({"text": "ä"}, ensure_ascii=False).encode(code)
        for code in ("utf-8", "latin-1", "utf-8-sig")
    ]
    assert kinds(outcomes(b"\n".join(lines), "f.jsonl")) == ["ä", Reason.INVALID_UTF8, "ä"]


def test_an_offset_of_an_arrow_column_that_points_elsewhere_costs_its_batch():
    content = bytearray(arrow(TEXTS))
    offsets = pa.array(TEXTS[7:14]).buffers()[1].to_pybytes()[:32]
    place = content.index(offsets)
    content[place + 8 : place + 12] = (1 << 30).to_bytes(4, "little")
    found = outcomes(bytes(content), "f.arrow")
    assert kinds(found) == [*TEXTS[:7], Reason.CORRUPT_ARROW, *TEXTS[14:]]
    assert found[7].num_rows == 7


@pytest.mark.parametrize("name", ["f.arrow", "f.arrows", "f.parquet"])
def test_a_column_whose_name_is_no_text_is_damage(name):
    found = kinds(outcomes(WHOLE[name].replace(b"text", b"te\xf4t"), name))
    assert found[0] in (Reason.CORRUPT_ARROW, Reason.CORRUPT_PARQUET, Reason.MISSING_FIELD)


@pytest.mark.parametrize("name", ["f.arrow", "f.arrows"])
def test_a_batch_that_claims_more_rows_than_its_columns_have_is_damage(name):
    """The 7 rows of the first batch stand in its header twice: for the batch, and for its column."""
    content = bytearray(WHOLE[name])
    batch = content.index(b"Text number 0")
    place = content.rindex((7).to_bytes(8, "little"), 0, content.rindex((7).to_bytes(8, "little"), 0, batch))
    content[place : place + 8] = (1 << 50).to_bytes(8, "little")
    found = outcomes(bytes(content), name)
    rest = TEXTS[7:] if name == "f.arrow" else []  # of a stream, all that follows
    assert kinds(found) == [Reason.CORRUPT_ARROW, *rest]


def test_a_stream_cut_between_two_batches_or_followed_by_another_is_not_whole():
    whole = WHOLE["f.arrows"]
    assert kinds(outcomes(whole, "f.arrows")) == TEXTS
    assert kinds(outcomes(whole[:-8], "f.arrows")) == [*TEXTS, Reason.CORRUPT_ARROW]
    assert kinds(outcomes(whole + whole, "f.arrows")) == [*TEXTS, Reason.CORRUPT_ARROW]


def test_a_text_of_an_arrow_column_that_is_no_utf8_costs_its_row():
    content = arrow(TEXTS).replace(b"Text number 3:", b"Text\xff\xff\xffmber 3:")
    assert kinds(outcomes(content, "f.arrow")) == [*TEXTS[:3], Reason.INVALID_UTF8, *TEXTS[4:]]


def test_a_date_beyond_the_calendar_costs_its_row():
    far = pa.array([0, 1 << 30], pa.int32()).view(pa.date32())
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "day": far}), sink)
    assert kinds(outcomes(sink.getvalue(), "f.parquet")) == ["a", Reason.WRONG_TYPE]


def test_a_field_nested_too_deep_is_an_outcome():
    for depth in (200, 990, 5000, 100_000):
        found = kinds(outcomes(b'{"text": "a", "v": ' + b"[" * depth + b"]" * depth + b"}", "f.jsonl"))
        assert found in (["a"], [Reason.BAD_JSON], [Reason.WRONG_TYPE])
        assert found == ["a"] or depth > 200


@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv", "f.txt"])
def test_a_row_far_beyond_the_limit_is_never_in_memory(name, tmp_path):
    """Half a gigabyte in one line, and a limit of 10 MB: the process grows by less than a quarter of the line."""
    path = tmp_path / name
    before = {"f.json": b'[{"text": "', "f.jsonl": b'{"text": "', "f.csv": b"text\n", "f.txt": b""}[name]
    after = {
        "f.json": b'"}, {"text": "b"}]',
        "f.jsonl": b'"}\n{"text": "b"}\n',
        "f.csv": b"\nb\n",
        "f.txt": b"",
    }[name]
    with path.open("wb") as sink:
        sink.write(before)
        for _ in range(500):
            sink.write(b"a" * 1_000_000)
        sink.write(after)
    code = f"""
        import resource
        from pathlib import Path
        from data.files import local_file
        from data.readers import read_file
        from data.reading import ReadRules
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rules = ReadRules(max_document_bytes=10_000_000)
        found = read_file(local_file(Path({str(path)!r})), rules=rules)
        print([getattr(item, "text", "") or item.reason.value for item in found])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    found, grown_kib = done.stdout.splitlines()
    assert found == ("['too_large']" if name == "f.txt" else "['too_large', 'b']")
    assert int(grown_kib) < 120_000
    path.unlink()
