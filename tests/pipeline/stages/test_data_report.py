"""A report on a real recipe: its facts, its page, its look on the terminal."""

import re
from xml.etree import ElementTree as ET

import pytest

from pipeline.cli import main


@pytest.fixture(scope="module")
def reported(make_tiny):
    """A recipe with a report on its documents, examples and tokens, built."""
    tiny = make_tiny()
    recipe = tiny.recipe.read_text()
    recipe = recipe.replace("  - _self_\n", "  - /stage/data_report@stages.report\n  - _self_\n")
    recipe += "  report: {inputs: {artifacts: [clean, split/train, pairs, tokens]}}\n"
    tiny.recipe.write_text(recipe)
    return tiny, tiny.build(["report"])


def test_the_facts_agree_with_the_artifacts(reported):
    _, built = reported
    facts = built["report"].folder.read_json("report.json")["artifacts"]
    clean, train, pairs, tokens = facts
    assert [each["kind"] for each in facts] == ["documents", "documents", "examples", "tokens"]
    assert clean["rows"] == built["clean"].manifest.counters["documents"]
    assert train["rows"] == built["split"].manifest.counters["train"]
    assert pairs["rows"] == built["pairs"].manifest.counters["examples"]
    assert tokens["length"] == built["tokens"].manifest.counters["tokens"]
    assert clean["counters"] == built["clean"].manifest.counters
    assert sum(length for _, length in clean["sources"]) == clean["length"]


def test_the_page_stands_alone_and_its_drawings_are_well_formed(reported):
    _, built = reported
    page = built["report"].folder.read_bytes("logs/report.html").decode()
    assert "src=" not in page
    assert "href=" not in page
    drawings = re.findall(r"<svg.*?</svg>", page)
    assert 1 + 2 * 4 <= len(drawings) <= 1 + 3 * 4  # lengths, sources, and reasons where there are any
    assert all(ET.fromstring(drawing).tag.endswith("svg") for drawing in drawings)
    for title in ("clean", "split/train", "pairs", "tokens"):
        assert f"<h2>{title}</h2>" in page


def test_inspect_shows_it_and_writes_the_page(reported, tmp_path, capsys):
    tiny, _ = reported
    assert main(["inspect", "report", *tiny.overrides]) == 0
    said = capsys.readouterr().out
    assert "split/train: " in said
    assert "p50 of tokens" in said
    assert main(["inspect", "report", "--html", str(tmp_path / "page.html"), *tiny.overrides]) == 0
    assert "<h1>Data report</h1>" in (tmp_path / "page.html").read_text()
