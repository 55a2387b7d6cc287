"""The stage as a whole: what it counts, what it keeps beside its artifact, and who sees that."""

import json

import pytest

from data.documents import read_documents
from pipeline.cli import main
from pipeline.dag.store import Artifact, Store
from pipeline.stages.sharding import shard_names

KEEP = "stages.clean.keep_dropped=true"
STRICT = "stages.clean.rules.max_words=12"


@pytest.fixture(scope="module")
def store(make_tiny):
    return make_tiny()


def rows(artifact: Artifact, name: str) -> list:
    with artifact.folder.opening(name) as source:
        return list(read_documents(source))


def test_what_is_dropped_is_kept_with_its_reason_and_is_no_content(store):
    plain = store.build(["clean"])["clean"]
    kept = store.build(["clean"], [KEEP])["clean"]
    assert kept.manifest.key != plain.manifest.key
    assert kept.manifest.digest == plain.manifest.digest
    (dropped,) = rows(kept, "logs/dropped/documents-00000.arrow")
    assert (dropped.id, dropped.text) == ("short.py", "x=1")
    assert json.loads(dropped.metadata) == {"dropped": "few_words"}
    assert kept.manifest.parts() == []
    assert kept.manifest.num_bytes("") == plain.manifest.num_bytes("")


def test_later_stages_read_only_what_stays(store):
    plain, kept = store.build(["dedup"]), store.build(["dedup"], [KEEP])
    assert kept["dedup"].manifest.key == plain["dedup"].manifest.key, "the same content: nothing runs again"
    strict = store.build(["dedup"], [KEEP, STRICT])
    counters = strict["clean"].manifest.counters
    assert counters["dropped/many_words"] == 30 + 1
    assert strict["dedup"].manifest.counters["documents_in"] == counters["documents"] == 10


def test_shards_do_not_count_what_is_kept_beside_them(store):
    artifact = store.build(["clean"], [KEEP])["clean"]

    class Given:
        part, manifest = "", artifact.manifest

    assert shard_names(Given) == ["documents-00000.arrow"]


def test_every_document_line_and_language_is_accounted_for(store):
    overrides = [
        "stages.clean.rules.lines.min_words=2",
        "stages.clean.rules.language.min_score=0.0",
        "stages.clean.mask.us_ssn=true",
    ]
    counters = store.build(["clean"], overrides)["clean"].manifest.counters
    dropped = sum(n for name, n in counters.items() if name.startswith("dropped/"))
    assert counters["documents_in"] == counters["documents"] + dropped == 42
    languages = sum(n for name, n in counters.items() if name.startswith("language/"))
    assert languages == counters["documents_in"]
    assert counters["lines_in"] == counters["lines"] + counters["lines_dropped/few_words"]
    assert counters["lines_dropped/few_words"] > 30


def test_personal_data_is_masked_in_what_stays(store, tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"text": "Write to jo@example.org or to 8.8.8.8 today."}) + "\n"
    )
    overrides = [f"stages.corpus.paths=[{tmp_path}/rows.jsonl]", "stages.clean.mask.email=true"]
    artifact = store.build(["clean"], overrides)["clean"]
    (row,) = rows(artifact, "documents-00000.arrow")
    assert row.text == "Write to <EMAIL> or to 8.8.8.8 today."
    assert artifact.manifest.counters["masked/email"] == 1


@pytest.fixture
def inspect(store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store.build(["clean"], [KEEP, STRICT])
    store.build(["clean"])

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["inspect", *words, *store.overrides])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_dropped_documents_can_be_looked_at(inspect):
    code, out, _ = inspect("clean", KEEP, STRICT, "--dropped", "all", "--json", "--limit", "100")
    assert code == 0
    reasons = [json.loads(json.loads(line)["metadata"])["dropped"] for line in out.splitlines()]
    assert sorted(set(reasons)) == ["few_words", "many_words"]
    assert len(reasons) == 32
    _, out, _ = inspect("clean", KEEP, STRICT, "--dropped", "few_words")
    assert "short.py" in out
    assert '{"dropped": "few_words"}' in out
    assert out.count("── ") == 1
    _, out, _ = inspect("clean", KEEP, STRICT, "--json", "--limit", "100")
    assert len(out.splitlines()) == 10


def test_dropped_documents_that_are_not_there_are_explained(inspect):
    code, _, error = inspect("clean", "--dropped", "all")
    assert code == 2
    assert "keep_dropped=true" in error
    code, _, error = inspect("clean", KEEP, STRICT, "--dropped", "few_wrods")
    assert code == 2
    assert '"few_words"' in error


def test_a_store_lists_the_kept_documents_among_its_files(store):
    artifact = store.build(["clean"], [KEEP])["clean"]
    names = [file.name for file in artifact.manifest.files]
    assert names == ["documents-00000.arrow", "logs/dropped/documents-00000.arrow"]
    assert Store(store.url).find("clean", artifact.manifest.key)
