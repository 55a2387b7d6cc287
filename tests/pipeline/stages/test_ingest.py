"""The stage that reads a corpus: its shards, its counters, its identity, and what it refuses."""

import gzip
import json

import pytest

from data.documents import read_documents
from data.errors import DataError
from data.files import Root, SourceFile
from data.reading import ReadRules, TextFormat
from pipeline.dag.folder import open_folder
from pipeline.dag.graph import Graph
from pipeline.dag.plan import Planner
from pipeline.dag.store import Store
from pipeline.errors import InputDataError
from pipeline.stages.clean import Clean
from pipeline.stages.ingest import Ingest
from pipeline.stages.split import Split


@pytest.fixture
def ingest(in_process, tmp_path):
    """Run the stage over some files; the documents of each shard, and its result."""
    (tmp_path / "corpus").mkdir()

    def run(contents: dict[str, bytes], folder: str = "out", **settings):
        for name, content in contents.items():
            (tmp_path / "corpus" / name).write_bytes(content)
        stage = Ingest(paths=[str(tmp_path / "corpus")], **settings)
        output = open_folder(str(tmp_path / folder))
        scratch = open_folder(str(tmp_path / f"{folder}-scratch"))
        result = stage.run(in_process(inputs={}, output=output, scratch=scratch))
        shards = [list(read_documents(output.opening(entry.name))) for entry in output.files(".arrow")]
        return shards, result, output

    return run


def jsonl(texts, **fields) -> bytes:
    return "".join(json.dumps({"text": text} | fields) + "\n" for text in texts).encode()


CORPUS = {
    "a.txt": b"A text.",
    "b.jsonl": jsonl(f"row {k}" for k in range(200)),
    "c.csv": b"text,n\n" + b"".join(b"row,%d\n" % k for k in range(300)),
    "d.jsonl.gz": gzip.compress(jsonl(f"packed {k}" for k in range(300))),
}


def test_a_large_file_becomes_several_shards_with_the_documents_of_one(ingest):
    whole, result, _ = ingest(CORPUS, "whole")
    parted, same, _ = ingest(CORPUS, "parted", shard_bytes=500)
    assert len(whole) == 1
    assert len(parted) > 10
    assert [document for shard in parted for document in shard] == whole[0]
    assert {document.source for document in parted[1]} == {"b.jsonl"}
    assert same.counters == result.counters | {"shards": len(parted)}
    assert result.counters["rows"] == result.counters["documents"] == 801
    assert result.counters["files"] == 4


def test_ids_of_the_rows_own_that_repeat_are_counted_and_kept(ingest):
    rows = [{"text": f"text {k}", "key": str(k % 7)} for k in range(20)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    contents = {"a.jsonl": content, "b.jsonl": b'{"text": "last", "key": "new"}\n'}
    for shard_bytes in (1 << 20, 60):
        shards, result, _ = ingest(
            contents, f"out-{shard_bytes}", rules=ReadRules(id_field="key"), shard_bytes=shard_bytes
        )
        assert sum(len(shard) for shard in shards) == result.counters["documents"] == 21
        assert result.counters["repeated_ids"] == 13
    _, result, _ = ingest(contents, "own")
    assert "repeated_ids" not in result.counters


def test_where_the_files_lay_is_noted(ingest, tmp_path):
    _, _, output = ingest({"a b.txt": b"x", "c.txt": b"yy"})
    corpus = tmp_path / "corpus"
    assert output.read_json("logs/files.json") == [
        {"bytes": 1, "name": "a b.txt", "path": str(corpus / "a b.txt")},
        {"bytes": 2, "name": "c.txt", "path": str(corpus / "c.txt")},
    ]


def test_a_page_without_main_text_does_not_fail_a_corpus_of_pages(ingest):
    page = "<html><body><article>" + "<p>The miller sleeps below his humming roof.</p>" * 9
    contents = {"a.html": page.encode(), "b.html": b"<html><body></body></html>", "c.html": b""}
    shards, result, _ = ingest(contents)
    assert len(shards[0]) == 1
    assert result.counters["rows"] == 3
    assert result.counters["unreadable/no_main_text"] == result.counters["unreadable/empty"] == 1


def test_damage_in_one_part_of_a_large_file_fails_the_stage_with_file_and_row(ingest, tmp_path):
    content = jsonl(f"row {k}" for k in range(100)) + b"{broken\n" + jsonl(["the end"])
    with pytest.raises(DataError, match="1 of 102 rows cannot be read; the first: bad_json") as caught:
        ingest({"a.jsonl": content}, shard_bytes=300)
    assert caught.value.where == f"{tmp_path / 'corpus/a.jsonl'}, row 100"
    shards, result, output = ingest(
        {"a.jsonl": content}, "tolerant", shard_bytes=300, max_unreadable_fraction=0.1
    )
    assert result.counters["documents"] == sum(map(len, shards)) == 101
    assert [fault["source"] for fault in output.read_json("logs/unreadable.json")] == ["a.jsonl"]


def test_more_shards_than_names_in_order_are_refused_with_the_setting(ingest, monkeypatch):
    monkeypatch.setattr("pipeline.stages.ingest.MOST_SHARDS", 3)
    with pytest.raises(DataError, match="4 shards") as caught:
        ingest({f"{k}.txt": b"x" * 10 for k in range(4)}, shard_bytes=10)
    assert "shard_bytes" in caught.value.do


def test_rules_that_cannot_be_are_problems_of_the_stage():
    stage = Ingest(paths=["x"], rules=ReadRules(max_document_bytes=0, max_inflation=-1), shard_bytes=0)
    found = [problem.field for problem in stage.problems()]
    assert found == ["shard_bytes", "rules.max_document_bytes", "rules.max_inflation"]
    assert all(problem.allowed and problem.do for problem in stage.problems())


def test_remote_files_are_identified_by_their_stamps_and_local_ones_by_their_bytes(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x")
    keys = []
    for stamp in ("1:5", "1:6", "1:5"):
        stage = Ingest(paths=[str(tmp_path)])
        local = stage.files[0]
        remote = SourceFile("b.txt", Root("bucket", filesystem=object(), url="s3://bucket"), 1, stamp=stamp)
        stage.files = [local, remote]
        planner = Planner(Graph({"corpus": stage}), Store(str(tmp_path / "store")), recipe="r")
        keys.append(planner.identify("corpus", {})["files"])
    assert keys[0] == keys[2] != keys[1]


def test_a_link_that_leads_nowhere_is_refused_by_its_name_before_anything_runs(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x")
    for name, target in (("gone.txt", "elsewhere"), ("round.txt", "round.txt")):
        (tmp_path / name).symlink_to(tmp_path / target)
        planner = Planner(
            Graph({"corpus": Ingest(paths=[str(tmp_path)])}), Store(str(tmp_path / "s")), recipe="r"
        )
        with pytest.raises(InputDataError, match="a file cannot be read") as caught:
            planner.identify("corpus", {})
        assert caught.value.where == f"{tmp_path / name} (stages.corpus)"
        (tmp_path / name).unlink()


def test_other_fields_of_a_row_come_through_cleaning_and_splitting(ingest, in_process, tmp_path):
    rows = [
        {"text": f"The water turns wheel number {k}.", "url": f"http://{k}", "lang": "en"} for k in range(30)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    rules = ReadRules(format=TextFormat.jsonl, metadata_fields=["url"])
    _, result, output = ingest({"a.txt": content}, rules=rules)
    folders = [output]
    for stage in (Clean(), Split()):
        given = Given(folders[-1])
        folders.append(open_folder(str(tmp_path / stage.name)))
        stage.run(
            in_process(inputs={"documents": [given]}, output=folders[-1], scratch=folders[-1].child("s"))
        )
    entries = folders[-1].files(".arrow")
    found = [doc for entry in entries for doc in read_documents(folders[-1].opening(entry.name))]
    assert len(found) == result.counters["documents"] == 30
    assert {doc.text.split()[-1]: json.loads(doc.metadata) for doc in found} == {
        f"{k}.": {"url": f"http://{k}"} for k in range(30)
    }


class Given:
    """An artifact at a port, as far as a stage looks at it."""

    def __init__(self, folder):
        self.node, self.part, self.kind, self.folder = "corpus", "", "documents", folder
        self.manifest = self
        self.files = folder.files()

    def content(self, part):
        assert not part
        return self.files
