from pathlib import Path

import pytest
import yaml

from pipeline.dag.store import Store


@pytest.fixture
def changed(make_tiny):
    """A store where `clean` was built under two rules, and the two fingerprints."""
    tiny = make_tiny()
    before = tiny.build(["dedup"])
    after = tiny.build(["dedup"], ["stages.clean.rules.min_words=4"])
    return tiny, before, after


def by_field(said):
    return {(each["section"], each["field"]): each for each in said.json["differences"]}


def test_the_same_thing_twice_has_no_difference(look):
    said = look("diff", "clean", "clean")
    assert (said.code, said.out.strip()) == (0, "no difference")
    assert look("diff", "clean", "clean", "--json").json["differences"] == []


def test_one_changed_rule_is_one_field(headrace, changed):
    tiny, before, after = changed
    keys = [each["clean"].manifest.key for each in (before, after)]
    said = headrace("diff", *keys, "--json", *tiny.overrides)
    assert said.code == 0
    found = by_field(said)
    assert found["identity", "config.rules.min_words"]["first"] == 3
    assert found["identity", "config.rules.min_words"]["second"] == 4
    assert {section for section, _ in found} <= {"identity", "content", "counters", "metrics"}
    assert "min_words" in headrace("diff", *keys, *tiny.overrides).out


def test_two_builds_of_the_same_bytes_are_the_same_input(headrace, changed):
    """What came in is compared by content, so that only what matters is left."""
    tiny, before, after = changed
    first, second = before["dedup"].manifest, after["dedup"].manifest
    same = before["clean"].manifest.digest == after["clean"].manifest.digest
    found = by_field(headrace("diff", first.key, second.key, "--json", *tiny.overrides))
    assert (("inputs", "documents") in found) != same


def test_counters_differ_by_so_much(look):
    said = look("diff", "tokens", "pair_tokens")
    assert "(-" in said.out or "(+" in said.out
    found = by_field(look("diff", "tokens", "pair_tokens", "--json"))
    assert found["counters", "targets"]["first"] is None
    assert "split " in found["inputs", "documents"]["first"]


def test_code_and_versions_are_compared(headrace, make_tiny):
    tiny = make_tiny()
    artifact = tiny.build(["clean"])["clean"]
    other = Path(tiny.url) / "other"
    manifest = artifact.folder.read_json("manifest.json")
    manifest["facts"]["versions"]["torch"] = "1.0"
    manifest["facts"]["code_commit"] = "abc"
    artifact.folder.child("../../../other").write_json("manifest.json", manifest)
    found = by_field(headrace("diff", "clean", str(other), "--json", *tiny.overrides))
    assert set(found) == {("circumstance", "versions.torch"), ("circumstance", "code_commit")}


def test_two_runs_differ_in_recipe_and_nodes(headrace, changed):
    tiny, before, after = changed
    for run_id, artifacts, words in (("20260101-000000-1", before, 3), ("20260101-000000-2", after, 4)):
        nodes = {
            node: {"stage": each.manifest.stage, "key": each.manifest.key} for node, each in artifacts.items()
        }
        recipe = yaml.safe_dump({"stages": {"clean": {"rules": {"min_words": words}}}})
        record = {"recipe": "tiny", "status": "FINISHED", "nodes": nodes, "yaml": recipe}
        Store(tiny.url).root.write_json(f"runs/{run_id}.json", record)
    runs = ["20260101-000000-1", "20260101-000000-2"]
    found = by_field(headrace("diff", *runs, "--json", *tiny.overrides))
    assert found["recipe", "stages.clean.rules.min_words"]["second"] == 4
    assert ("nodes", "clean") in found
    assert ("nodes", "corpus") not in found
    assert headrace("diff", runs[0], runs[0], *tiny.overrides).out.strip() == "no difference"
    assert "is a run and the other" in headrace("diff", runs[0], "clean", *tiny.overrides).error()


def test_it_takes_two(look):
    assert "takes 2 REFs, and 1 are given" in look("diff", "clean").error()
