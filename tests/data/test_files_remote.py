"""A corpus on an object store: a real S3 server, moto's, in its own process."""

import json
import pickle
import time

import boto3
import pyarrow as pa
import pytest

from data.errors import DataError
from data.files import list_files
from data.readers import read_file
from data.readers.parts import pieces_of, read_piece, spans_of, survey
from data.reading import ReadRules

pytestmark = pytest.mark.slow


def arrow(texts: list[str]) -> bytes:
    sink, rows = pa.BufferOutputStream(), pa.table({"text": texts})
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=10)
    return sink.getvalue().to_pybytes()


CONTENT = {
    "c/a.jsonl": "".join(json.dumps({"text": f"row {k}"}) + "\n" for k in range(100)).encode(),
    "c/sub/b.arrow": arrow([f"batch {k}" for k in range(50)]),
    "c/sub/name with space ü.txt": b"A text.",
    "c/.hidden/d.txt": b"hidden",
}


@pytest.fixture(scope="module")
def bucket(s3):
    client = boto3.client("s3", endpoint_url=f"http://{s3.endpoint}")
    client.create_bucket(Bucket="corpus")
    for name, content in CONTENT.items():
        client.put_object(Bucket="corpus", Key=name, Body=content)
    return client


@pytest.fixture
def url(s3, bucket):
    return lambda place: s3.url(f"corpus/{place}")


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("c", ["a.jsonl", "sub/b.arrow", "sub/name with space ü.txt"]),
        ("c/", ["a.jsonl", "sub/b.arrow", "sub/name with space ü.txt"]),
        ("c/**/*.arrow", ["sub/b.arrow"]),
        ("c/*.jsonl", ["a.jsonl"]),
        ("c/a.jsonl", ["a.jsonl"]),
        ("*/sub/**", ["c/sub/b.arrow", "c/sub/name with space ü.txt"]),
        ("c/**/.hidden/*", [".hidden/d.txt"]),
    ],
)
def test_urls_find_what_paths_would(url, place, names):
    assert [file.name for file in list_files([url(place)])] == names


def test_remote_files_are_read_whole_and_in_parts_by_other_processes(url):
    rules = ReadRules()
    files = pickle.loads(pickle.dumps(list_files([url("c")])))
    whole = [outcome for file in files for outcome in read_file(file, rules=rules)]
    assert [item.text for item in whole] == [
        *(f"row {k}" for k in range(100)),
        *(f"batch {k}" for k in range(50)),
        "A text.",
    ]
    spans = spans_of(files, rules=rules, part_bytes=500)
    pieces = pieces_of(files, spans, [survey(span, rules=rules, part_bytes=500) for span in spans])
    assert len(pieces) > 6
    assert [outcome for piece in pieces for outcome in read_piece(piece, rules=rules)] == whole


def test_a_remote_file_is_identified_by_its_size_and_time(url, bucket):
    bucket.put_object(Bucket="corpus", Key="d/a.txt", Body=b"one")
    (before,) = list_files([url("d")])
    assert (before.num_bytes, before.is_remote, before.name) == (3, True, "a.txt")
    assert before.path.startswith("s3://corpus/d/a.txt?")
    time.sleep(1.1)  # S3 keeps whole seconds
    bucket.put_object(Bucket="corpus", Key="d/a.txt", Body=b"two")
    (after,) = list_files([url("d")])
    assert after.stamp != before.stamp
    with pytest.raises(DataError, match="changed since it was listed"):
        list(read_file(before, rules=ReadRules()))


def test_what_is_not_there_or_cannot_be_opened_is_an_error(url):
    with pytest.raises(DataError, match="finds no file"):
        list_files([url("c/*.pdf")])
    with pytest.raises(DataError, match="finds no file"):
        list_files([url("nowhere/at/all")])
    with pytest.raises(DataError, match="cannot be opened"):
        list_files(["nonsense://bucket/x"])


def test_a_file_url_is_a_path(tmp_path):
    (tmp_path / "a b.txt").write_text("x")
    (file,) = list_files([f"{tmp_path.as_uri()}/a%20b.txt"])
    assert (file.name, file.is_remote, file.path) == ("a b.txt", False, str(tmp_path / "a b.txt"))
