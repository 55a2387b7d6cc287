"""A corpus under generated damage: every file and every row of it is a document or is counted, down to the artifact."""

import bz2
import gzip
import io
import json
import lzma
import os
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.documents import read_documents
from data.errors import DataError
from pipeline.dag.folder import open_folder
from pipeline.stages.ingest import Ingest

TEXTS = [f"Text number {n}: the water turns the wheel, 水 and {n * n} stones." for n in range(30)]
ROWS = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
SUFFIXES = ("jsonl", "jsonl.gz", "jsonl.bz2", "jsonl.xz", "parquet", "arrow", "arrows", "txt")
NAMES = ("a", "name with spaces", "line\nend", "水と車", "näme", "quote'\"#1?")


def whole(suffix: str) -> bytes:
    sink, table = io.BytesIO(), pa.table({"text": TEXTS})
    if suffix == "parquet":
        pq.write_table(table, sink, row_group_size=7, write_page_checksum=True)
    elif suffix in ("arrow", "arrows"):
        with (pa.ipc.new_file if suffix == "arrow" else pa.ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    else:
        packed = {"jsonl.gz": gzip.compress, "jsonl.bz2": bz2.compress, "jsonl.xz": lzma.compress}
        sink.write(packed.get(suffix, bytes)(ROWS))
    return sink.getvalue()


WHOLE = {suffix: whole(suffix) for suffix in SUFFIXES}


@st.composite
def damaged(draw, suffix):
    content = bytearray(WHOLE[suffix])
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["cut", "flip", "insert", "zero"])):
            case "cut":
                del content[place:]
            case "flip" if content:
                content[place] ^= draw(st.integers(1, 255))
            case "insert":
                content[place:place] = draw(st.binary(min_size=1, max_size=9))
            case "zero":
                content[place : place + 20] = b"\0" * len(content[place : place + 20])
    return bytes(content)


@st.composite
def corpora(draw):
    kinds = draw(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(SUFFIXES)), max_size=5, unique=True)
    )
    return {f"{name}.{suffix}": draw(damaged(suffix)) for name, suffix in kinds}


def outcomes_at_least(name: str, content: bytes) -> int:
    """How many rows a file must account for, documents and reasons together; whoever wrote it wrote 30."""
    if name.endswith(".jsonl"):
        return sum(not line.isspace() for line in content.split(b"\n") if line)
    return 1 if name.endswith(".txt") else len(TEXTS)


@given(corpora(), st.sampled_from([300, 2000, 1 << 20]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_of_a_damaged_corpus_vanishes_uncounted(in_process, tmp_path_factory, corpus, shard_bytes):
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "corpus").mkdir()
    for name, content in (corpus | {"good.jsonl": ROWS}).items():
        (folder / "corpus" / name).write_bytes(content)
    output, scratch = (open_folder(str(folder / name)) for name in ("output", "scratch"))
    stage = Ingest(paths=[str(folder / "corpus")], shard_bytes=shard_bytes, max_unreadable_fraction=1.0)
    counters = stage.run(in_process(inputs={}, output=output, scratch=scratch)).counters
    shards = [output.opening(entry.name) for entry in output.files(".arrow")]
    documents = Counter(document.source for shard in shards for document in read_documents(shard))
    unreadable = {name: n for name, n in counters.items() if name.startswith("unreadable/")}
    assert counters["documents"] == documents.total()
    assert counters["rows"] == documents.total() + sum(unreadable.values())
    assert counters["files"] == len(corpus) + 1
    faults = output.read_json("logs/unreadable.json") if output.exists("logs/unreadable.json") else []
    assert bool(faults) == bool(unreadable.keys() - {"unreadable/empty"})
    told = Counter(fault["source"] for fault in faults)
    for name, content in corpus.items():
        expected = outcomes_at_least(name, content)
        if name.endswith(".jsonl"):
            assert documents[name] + told[name] >= expected, name
        elif name.endswith(".txt") and not content.decode(errors="replace").strip():
            assert "unreadable/empty" in unreadable
        else:
            empty = unreadable.get("unreadable/empty", 0)  # where an offset of a column was hit
            assert documents[name] + empty >= expected or told[name], name


def test_names_of_any_kind_come_through_to_documents_and_to_the_list_of_files(in_process, tmp_path):
    (tmp_path / "corpus").mkdir()
    for name in (*NAMES, os.fsdecode(b"caf\xe9")):
        (tmp_path / "corpus" / f"{name}.txt").write_text(f"text of {len(name)}")
    output, scratch = (open_folder(str(tmp_path / name)) for name in ("output", "scratch"))
    stage = Ingest(paths=[str(tmp_path / "corpus/*.txt")], shard_bytes=20)
    stage.run(in_process(inputs={}, output=output, scratch=scratch))
    shards = [output.opening(entry.name) for entry in output.files(".arrow")]
    ids = [document.id for shard in shards for document in read_documents(shard)]
    assert ids == sorted([*(f"{name}.txt" for name in NAMES), "caf\\xe9.txt"])
    assert [each["name"] for each in output.read_json("logs/files.json")] == ids


NOTHING_HELD_OUT = ["stages.split.rules.validation_fraction=0", "stages.split.rules.test_fraction=0"]


@pytest.mark.parametrize(
    ("node", "overrides", "said", "knob"),
    [
        (
            "clean",
            ["stages.clean.rules.min_words=100000"],
            r"no document is left: dropped/few_words \d+\n",
            "stages.clean.rules",
        ),
        (
            "pairs",
            ["stages.pairs.source=fields"],
            "no document is left: refused/missing_field",
            "stages.pairs.source",
        ),
        (
            "pair_tokens",
            ["stages.pair_tokens.max_example_tokens=2"],
            "no document is left",
            "stages.pair_tokens",
        ),
        (
            "tokens",
            ["stages.tokens.inputs.documents=split/test", *NOTHING_HELD_OUT],
            "no document is left",
            "tokens",
        ),
        (
            "tokenizer",
            ["stages.tokenizer.inputs.documents=split/test", *NOTHING_HELD_OUT],
            "there is no text",
            "show",
        ),
    ],
)
def test_a_stage_that_is_left_without_documents_says_so_with_what_to_change(
    nothing_left, node, overrides, said, knob
):
    with pytest.raises(DataError, match=said) as caught:
        nothing_left.build([node], overrides)
    assert node in caught.value.where
    assert knob in caught.value.do


@pytest.fixture(scope="module")
def nothing_left(make_tiny):
    return make_tiny()
