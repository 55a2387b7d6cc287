"""What meets a reference goes, and the list says what it met."""

import pytest
from pyarrow import parquet

from data.contamination import OverlapRules
from data.documents import Document, DocumentWriter, read_documents
from data.errors import DataError
from data.examples import Example, ExampleWriter
from pipeline.dag.folder import open_folder
from pipeline.dag.stage import Input
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.stages.decontaminate import MATCHES, Decontaminate

QUESTION = "When does the train that left the old mill at noon arrive at the weir"
ANSWER = "It arrives at four since the river runs slowly in a dry summer"
RULES = OverlapRules(ngram_words=8)


@pytest.fixture
def given(tmp_path):
    """An input of shards of rows."""

    def write(node, kind, *shards, part=""):
        folder = open_folder(str(tmp_path / node / part)) if part else open_folder(str(tmp_path / node))
        kinds = {"documents": DocumentWriter, "examples": ExampleWriter}
        for number, rows in enumerate(shards):
            with folder.writing(f"{kind}-{number:05d}.arrow") as sink, kinds[kind](sink) as writer:
                for row in rows:
                    writer.write(row)
        prefix = f"{part}/" if part else ""
        files = [ManifestFile(prefix + entry.name, entry.size, "") for entry in folder.files()]
        return Input(node, part, kind, folder, Manifest("", "", kind, node, {}, {}, files, {}, {}, {}))

    return write


@pytest.fixture
def run(in_process, tmp_path):
    def start(documents, *references, rules=RULES):
        output, scratch = open_folder(str(tmp_path / "output")), open_folder(str(tmp_path / "scratch"))
        inputs = {"documents": [documents], "references": list(references)}
        return Decontaminate(rules=rules).run(
            in_process(inputs=inputs, output=output, scratch=scratch)
        ), output

    return start


def documents(*texts):
    return [Document(f"d{number}", text, "source", number) for number, text in enumerate(texts)]


def ids(output):
    found = []
    for entry in output.files(".arrow"):
        with output.opening(entry.name) as source:
            found += [document.id for document in read_documents(source)]
    return found


def test_each_reference_is_counted_and_what_was_met_is_listed(given, run):
    corpus = given(
        "corpus",
        "documents",
        documents("nothing of it", f"A riddle: {QUESTION}?"),
        [Document("both", f"{QUESTION} {ANSWER}", "s"), Document("answer", f"x {ANSWER} y", "s")],
    )
    test = given("split", "documents", documents("other words"), documents(QUESTION, ANSWER), part="test")
    pairs = given("pairs", "examples", [Example("e", "s", QUESTION, "At four")])
    result, output = run(corpus, test, pairs)
    assert ids(output) == ["d0"]
    counters = result.counters
    assert counters["documents_in"] == counters["documents"] + counters["dropped/contaminated"] == 4
    assert (counters["contaminated/split/test"], counters["contaminated/pairs"]) == (3, 2)
    assert counters["references/short"] == 1
    files = output.child(MATCHES).files(".parquet")
    rows = [
        row for each in files for row in parquet.read_table(output.child(MATCHES).at(each.name)).to_pylist()
    ]
    assert [(row["id"], row["reference"]) for row in rows] == [
        ("d1", "split/test"),
        ("d1", "pairs"),
        ("both", "split/test"),
        ("both", "pairs"),
        ("answer", "split/test"),
    ]
    assert rows[-1]["ngram"] == "it arrives at four since the river runs"
    assert rows[-1]["num_shared"] == 6
    assert rows[-1]["num_ngrams"] == 8


def test_an_empty_reference_takes_nothing(given, run):
    result, output = run(given("corpus", "documents", documents(QUESTION)), given("none", "documents", []))
    assert ids(output) == ["d0"]
    assert result.counters["contaminated/none"] == 0


def test_a_corpus_that_is_all_reference_is_an_error(given, run):
    with pytest.raises(DataError, match="no document is left"):
        run(
            given("corpus", "documents", documents(QUESTION)), given("test", "documents", documents(QUESTION))
        )


def test_wrong_rules_are_named_by_their_field():
    stage = Decontaminate(rules=OverlapRules(min_overlap_fraction=2))
    assert [each.field for each in stage.problems()] == ["rules.min_overlap_fraction"]
