"""Word vectors from outside, judged and written out again, as a recipe has them."""

import json

import pytest
from gensim.models import KeyedVectors

from pipeline.cli import main

RECIPE = """\
# @package _global_
defaults:
  - /stage/import_vectors@stages.vectors
  - /stage/evaluate_vectors@stages.score
  - /stage/export_vectors@stages.file
  - _self_
stages:
  vectors: {path: FOLDER/given.txt}
  score: {inputs: {vectors: vectors}, analogies: [FOLDER/royal.txt], similarities: [FOLDER/pairs.tsv], words: [king]}
  file: {inputs: {vectors: vectors}, form: binary}
"""
GIVEN = "king 1 1 0\nman 1 0 0\nwoman 1 0 1\nqueen 1 1 1\nmill -1 0.1 0.2\n"


@pytest.fixture
def built(make_tiny, tmp_path):
    """The finished store of vectors that came as GloVe's text."""
    (tmp_path / "given.txt").write_text(GIVEN)
    (tmp_path / "royal.txt").write_text(
        ": royal\nman king woman queen\nman king woman duke\nman woman king mill\n"
    )
    (tmp_path / "pairs.tsv").write_text("king\tqueen\t9\nking\tman\t7\nking\tmill\t1\nking\tduke\t5\n")
    store = make_tiny()
    store.recipe.write_text(RECIPE.replace("FOLDER", str(tmp_path)))
    return store, store.build()


def test_scores_are_counted_with_what_was_left_out(built):
    manifest = built[1]["score"].manifest
    assert manifest.metrics == {"accuracy/royal": 0.5, "spearman/pairs": pytest.approx(1.0)}
    assert manifest.counters == {
        "analogies/royal/asked": 2,
        "analogies/royal/unknown": 1,
        "similarities/pairs/asked": 3,
        "similarities/pairs/unknown": 1,
        "words": 5,
    }


def test_an_exported_file_is_what_gensim_reads(built):
    found = KeyedVectors.load_word2vec_format(f"{built[1]['file'].folder.path}/vectors.bin", binary=True)
    assert found.index_to_key == ["king", "man", "woman", "queen", "mill"]
    assert found["queen"].tolist() == [1, 1, 1]


def test_other_questions_are_another_identity(built, tmp_path):
    store, first = built
    (tmp_path / "pairs.tsv").write_text("king\tqueen\t1\nking\tman\t7\nking\tmill\t9\n")
    second = store.build()
    assert second["vectors"].manifest.key == first["vectors"].manifest.key
    assert (
        second["score"].manifest.metrics["spearman/pairs"]
        < 0
        < first["score"].manifest.metrics["spearman/pairs"]
    )


def test_inspect_shows_neighbours_and_scores(built, capsys):
    store, _ = built
    assert main(["inspect", "vectors", *store.overrides, "--contains", "king", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["num_words"], facts["width"], facts["num_matching"]) == (5, 3, 1)
    assert [each["word"] for each in facts["words"][0]["nearest"]] == ["queen", "man", "woman", "mill"]
    for node in ("vectors", "score", "file"):
        assert main(["inspect", node, *store.overrides]) == 0
    shown = capsys.readouterr().out
    assert "queen 0.82" in shown
    assert "accuracy/royal" in shown
