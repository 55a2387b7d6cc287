"""Duplicates over several shards: what stays, what is listed, and that neither order nor a kill changes a byte."""

import json
import random
from dataclasses import dataclass, field
from itertools import chain
from threading import Event

import pytest
from pyarrow import parquet

from data.dedup import listing
from data.dedup.clusters import Keep
from data.dedup.near import NearRules
from data.documents import Document, DocumentWriter, read_documents
from data.splits import SplitRules
from pipeline.dag.folder import Folder, open_folder
from pipeline.dag.stage import Input
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.stages import dedup
from pipeline.stages.dedup import CLUSTERS, Dedup, Fate, Match
from pipeline.stages.split import Split

NEAR = NearRules(ngram_words=2)


def corpus() -> list[list[Document]]:
    """Three shards of 40 texts; of the first ten a copy, of the next ten one with more white space, of ten an edit."""
    chance = random.Random(1)
    words = [f"w{k}" for k in range(400)]
    texts = [" ".join(chance.choices(words, k=80)) for _ in range(40)]
    edits = [" ".join([*text.split()[:-2], "another", "end", "here"]) for text in texts[20:30]]
    texts = [*texts, *texts[:10], *(text.replace(" ", "  ") for text in texts[10:20]), *edits]
    documents = [Document(f"d{number}", text, "source", number) for number, text in enumerate(texts)]
    return [documents[:25], documents[25:50], documents[50:]]


def written(folder: Folder, shards: list[list[Document]]) -> Input:
    for number, documents in enumerate(shards):
        with folder.writing(f"documents-{number:05d}.arrow") as sink, DocumentWriter(sink) as writer:
            for document in documents:
                writer.write(document)
    files = [ManifestFile(entry.name, entry.size, "") for entry in folder.files(".arrow")]
    manifest = Manifest("ingest", "", "documents", "corpus", {}, {}, files, {}, {}, {})
    return Input("corpus", "", "documents", folder, manifest)


def bytes_of(folder: Folder) -> dict[str, bytes]:
    return {entry.name: folder.read_bytes(entry.name) for entry in folder.files()}


@pytest.fixture
def run(in_process, tmp_path):
    """Run the stage on shards of documents; returns the result and its output."""

    def start(stage, shards=None, name="one", **context):
        folder = open_folder(str(tmp_path / name))
        given = written(folder.child("documents"), corpus() if shards is None else shards)
        output, scratch = folder.child("output"), folder.child("scratch")
        made = in_process(inputs={"documents": [given]}, output=output, scratch=scratch, **context)
        return stage.run(made), output

    return start


def kept(output: Folder) -> list[Document]:
    documents = []
    for entry in output.files(".arrow"):
        with output.opening(entry.name) as source:
            documents += read_documents(source)
    return documents


def listed(output: Folder) -> dict[str, dict]:
    files = output.child(CLUSTERS).files(".parquet")
    tables = [parquet.read_table(output.child(CLUSTERS).at(entry.name)) for entry in files]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def test_exact_duplicates_lose_all_but_the_first(run):
    result, output = run(Dedup())
    assert {document.id for document in kept(output)} == {f"d{k}" for k in [*range(40), *range(60, 70)]}
    assert result.counters["dropped/duplicate"] == 20
    assert result.counters["clusters"] == 20
    rows = listed(output)
    assert len(rows) == 40
    assert rows["d45"] == {"id": "d45", "cluster": "d5", "stays": False, "kind": "exact", "similarity": 1.0}
    assert rows["d5"]["stays"]


def test_near_duplicates_go_too_and_say_how_near(run):
    result, output = run(Dedup(match=Match.near, near=NEAR))
    assert {document.id for document in kept(output)} == {f"d{k}" for k in range(40)}
    assert result.counters["dropped/duplicate"] == 20
    assert result.counters["dropped/near_duplicate"] == 10
    rows = listed(output)
    assert {rows[f"d{k}"]["cluster"] for k in range(60, 70)} == {f"d{k}" for k in range(20, 30)}
    for k in range(60, 70):
        assert rows[f"d{k}"]["kind"] == "near"
        assert rows[f"d{k}"]["similarity"] == pytest.approx(77 / 82, abs=0.12)


def test_a_pair_that_is_not_alike_enough_is_no_duplicate(run):
    rules = NearRules(ngram_words=2, min_similarity=0.999)
    result, output = run(Dedup(match=Match.near, near=rules))
    assert result.counters["dropped/duplicate"] == 20
    assert result.counters["pairs/unlike"] > 0
    assert result.counters["dropped/near_duplicate"] == sum(
        row["kind"] == "near" for row in listed(output).values()
    )
    assert all(row["similarity"] >= 0.999 for row in listed(output).values())


def test_the_longest_stays(run):
    _, output = run(Dedup(keep=Keep.longest))
    expected = {*range(10), *range(50, 60), *range(20, 40), *range(60, 70)}
    assert {document.id for document in kept(output)} == {f"d{k}" for k in expected}


def test_marked_duplicates_stay_and_split_keeps_them_with_the_one_they_duplicate(run, in_process, tmp_path):
    stage = Dedup(match=Match.near, near=NEAR, duplicates=Fate.marked)
    result, output = run(stage)
    documents = kept(output)
    assert result.counters["documents"] == result.counters["documents_in"] == len(documents) == 70
    assert result.counters["marked/duplicate"] + result.counters["marked/near_duplicate"] == 30
    marks = {each.id: json.loads(each.metadata)["duplicate_of"] for each in documents if each.metadata}
    rows = listed(output)
    assert marks == {name: row["cluster"] for name, row in rows.items() if not row["stays"]}
    half = Split(rules=SplitRules(validation_fraction=0.4, test_fraction=0.2))
    marked, plain = run_split(half, run, documents), run_split(half, run, [*chain(*corpus())])
    assert all(marked[name] == marked[cluster] for name, cluster in marks.items())
    assert any(plain[name] != plain[cluster] for name, cluster in marks.items())
    assert all(plain[name] == part for name, part in marked.items() if name not in marks)


def run_split(stage, run, documents):
    """Id to part."""
    _, output = run(stage, [documents], name=f"split-{id(documents)}")
    parts = ("train", "validation", "test")
    return {document.id: part for part in parts for document in kept(output.child(part))}


class KilledError(Exception):
    """As if the node had died."""


@dataclass
class Recording:
    """A map that records finished items as Ray's does, takes them in another order, and dies where it is told to."""

    left: int = 10**9
    done: dict = field(default_factory=dict)

    def __call__(self, function, items, **_):
        for name in sorted(items, reverse=True):
            if (function.__name__, name) in self.done:
                continue
            if not self.left:
                raise KilledError
            self.left -= 1
            self.done[function.__name__, name] = function(*items[name])
        return {name: self.done[function.__name__, name] for name in items}


@pytest.mark.parametrize("bits", [0, 2])
def test_order_ranges_and_kills_change_no_byte(run, monkeypatch, bits):
    stage = Dedup(match=Match.near, near=NEAR)
    whole, expected = run(stage, name="whole")
    if bits:
        monkeypatch.setattr(dedup, "KEYS_AT_ONCE", 70 // 2**bits + 1)
    recording = Recording(left=0)
    while True:
        try:
            result, output = run(stage, name="killed", map=recording)
        except KilledError:
            recording.left = 5
        else:
            break
    assert result.counters == whole.counters
    assert bytes_of(output) == bytes_of(expected)


@pytest.mark.slow
def test_tasks_on_ray_write_the_same_bytes_whatever_their_number(run, tmp_path):
    from pipeline.cluster import ClusterConfig, connected
    from pipeline.dag.resources import Resources
    from pipeline.dag.tasks import MailboxChannel, RayMap, new_mailbox

    stage = Dedup(match=Match.near, near=NEAR)
    whole, expected = run(stage, name="whole")
    with connected(ClusterConfig(num_cpus=2), on_loss=lambda: None):
        for workers in (1, 2):
            work = open_folder(str(tmp_path / f"work-{workers}"))
            resources, channel = Resources(num_workers=workers), MailboxChannel(new_mailbox(), "dedup")
            ray_map = RayMap("dedup", work, resources, channel, Event())
            result, output = run(stage, name=f"ray-{workers}", map=ray_map)
            assert result.counters == whole.counters
            assert bytes_of(output) == bytes_of(expected)


def test_many_pairs_are_compared_in_pieces(run, monkeypatch):
    stage = Dedup(match=Match.near, near=NearRules(ngram_words=2, min_similarity=0.7))
    _, expected = run(stage, name="whole")
    monkeypatch.setattr(listing, "PAIRS_AT_ONCE", 3)
    _, output = run(stage, name="pieces")
    assert bytes_of(output) == bytes_of(expected)


@pytest.mark.parametrize("shards", [[[], ["a b"]], [["a b"], ["?", "c d e"]]])
def test_a_corpus_without_duplicates_stays_as_it_is(run, shards):
    given = [[Document(text, text, "source") for text in texts] for texts in shards]
    result, output = run(Dedup(match=Match.near, near=NEAR, keep=Keep.longest), given)
    assert kept(output) == [*chain(*given)]
    assert result.counters["clusters"] == result.counters["dropped/duplicate"] == 0
    assert listed(output) == {}


def test_wrong_rules_are_named_by_their_field():
    assert [each.field for each in Dedup(near=NearRules(num_rows=0)).problems()] == ["near.num_rows"]
