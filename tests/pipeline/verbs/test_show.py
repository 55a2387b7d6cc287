import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.dag.store import Store
from pipeline.tracking.config import TrackingConfig, tracking_uri
from pipeline.tracking.server import open_client

RUN = "20260102-030405-77"


def test_the_sheet_of_a_node_says_what_it_is_and_where_it_came_from(look, tiny):
    said = look("show", "tokens")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["tokens", "tokens"]
    assert any("documents" in line and "split  split/" in line for line in lines)
    assert any(line.split()[:1] == ["tokens"] and "train" not in line for line in lines)
    assert "33 files" in said.out
    assert str(Path(tiny.url).parent / "corpus") in said.out
    assert "null: max_example_tokens" in said.out


def test_json_holds_the_whole_manifest_and_the_lineage_to_every_file(look, tiny):
    facts = look("show", "export", "--json").json
    assert facts["kind"] == "export"
    assert facts["facts"]["versions"]["torch"]
    by_node = {each["node"]: each for each in facts["lineage"]}
    nodes = {"export", "base", "tokens", "tokenizer", "split", "dedup", "clean", "corpus"}
    assert set(by_node) == nodes
    assert by_node["base"]["inputs"]["tokens"][0]["part"] == "train"
    files = by_node["corpus"]["files"]
    corpus = sorted((Path(tiny.url).parent / "corpus").iterdir())
    assert [file["path"] for file in files] == [str(path) for path in corpus]
    assert [file["bytes"] for file in files] == [path.stat().st_size for path in corpus]


def test_every_input_of_a_port_that_takes_several_is_shown(headrace, make_tiny):
    tiny = make_tiny()
    recipe = tiny.recipe.read_text().replace(
        "  - _self_", "  - /stage/decontaminate@stages.clear\n  - _self_"
    )
    inputs = "{documents: split/train, references: [split/test, split/validation]}"
    tiny.recipe.write_text(f"{recipe}  clear: {{inputs: {inputs}, rules: {{min_overlap_fraction: 1}}}}\n")
    tiny.build(["clear"])
    said = headrace("show", "clear", *tiny.overrides).out
    for place in ("split/train", "split/test", "split/validation"):
        assert f"{place}  split/" in said


@pytest.mark.parametrize("form", ["key", "prefix", "stage/prefix", "folder", "manifest"])
def test_every_name_of_an_artifact_means_it(look, form):
    facts = look("show", "clean", "--json").json
    names = {
        "key": facts["key"],
        "prefix": facts["key"][:8],
        "stage/prefix": f"clean/{facts['key'][:6]}",
        "folder": facts["url"] + "/",
        "manifest": f"{facts['url']}/manifest.json",
    }
    assert look("show", names[form], "--json").json == facts


def test_a_part_has_its_own_digest_and_files(look):
    whole = look("show", "split", "--json").json
    part = look("show", "split/train", "--json").json
    tokens = look("show", "tokenizer", "--json").json
    assert part["part_digest"] == tokens["inputs"]["documents"][0]["digest"] != whole["digest"]
    assert "validation/documents" not in look("show", "split/train").out


def test_an_artifact_of_another_store_is_traced_there(headrace, look):
    url = look("show", "tokens", "--json").json["url"]
    elsewhere = headrace("show", url, "--json", "store=empty")
    assert [each["in_store"] for each in elsewhere.json["lineage"]] == [True] * 6


def test_the_recipe_is_printed_as_yaml_that_is_a_recipe(look):
    content = yaml.safe_load(look("show", "recipe").out)
    assert content["stages"]["clean"]["rules"]["min_words"] == 3
    assert look("show", "recipe", "--json").json == content


def test_a_run_shows_what_it_built_and_what_is_gone(look, tiny):
    store = Store(tiny.url)
    clean = look("show", "clean", "--json").json
    nodes = {"clean": {"stage": "clean", "key": clean["key"]}, "gone": {"stage": "clean", "key": "f" * 32}}
    record = {"recipe": "tiny", "status": "FINISHED", "started_at": 0.0, "seconds": 75.0, "nodes": nodes}
    store.root.write_json(f"runs/{RUN}.json", record | {"yaml": "stages: {}\n"})
    said = look("show", RUN)
    assert "1m 15s" in said.out
    assert "gone from the store" in said.out
    facts = look("show", RUN, "--json").json
    assert facts["nodes"]["clean"]["counters"] == clean["counters"]
    assert facts["nodes"]["gone"]["in_store"] is False
    assert RUN in look("show", "20260102-030405-99").error()


def test_mlflow_ids_lead_to_the_artifact_and_to_the_run(headrace, make_tiny):
    tiny = make_tiny()
    artifact = tiny.build(["clean"])["clean"]
    uri = tracking_uri(TrackingConfig(), store_path=Path(tiny.url))
    client = open_client(uri)
    experiment = client.create_experiment("headrace")
    node_tags = {"headrace.stage": "clean", "headrace.fingerprint": artifact.manifest.key}
    child = client.create_run(experiment, tags=node_tags).info.run_id
    parent = client.create_run(experiment, tags={"headrace.run_id": RUN}).info.run_id
    lost = client.create_run(experiment, tags=node_tags | {"headrace.fingerprint": "0" * 32}).info.run_id
    record = {"recipe": "tiny", "nodes": {}, "yaml": ""}
    Store(tiny.url).root.write_json(f"runs/{RUN}.json", record)
    assert headrace("show", child, "--json", *tiny.overrides).json["key"] == artifact.manifest.key
    assert headrace("show", parent, "--json", *tiny.overrides).json["run_id"] == RUN
    assert "no artifact in this store" in headrace("show", lost, *tiny.overrides).error()
    assert "neither a node" in headrace("show", "a" * 32, *tiny.overrides).error()


def test_a_wrong_reference_is_refused_in_four_parts(look):
    assert 'did you mean "clean"?' in look("show", "claen").error()
    assert "takes 1 REF" in look("show").error()
    assert "takes 1 REF" in look("show", "clean", "split").error()
    assert 'did you mean "train"?' in look("show", "split/trian").error()


def test_a_node_that_is_not_built_says_how_to_build_it(look):
    error = look("show", "clean", "stages.clean.rules.min_words=4").error()
    assert "rules.min_words: 3 → 4" in error
    assert "headrace run clean" in error


def test_an_ambiguous_prefix_lists_what_it_may_mean(look, tiny):
    store = Store(tiny.url)
    store.root.write_json("artifacts/clean/abcdef01/manifest.json", {})
    store.root.write_json("artifacts/clean/abcdef02/manifest.json", {})
    try:
        error = look("show", "abcdef").error()
    finally:
        store.root.delete("artifacts/clean/abcdef01")
        store.root.delete("artifacts/clean/abcdef02")
    assert "clean/abcdef01, clean/abcdef02" in error


def test_a_damaged_manifest_is_an_error_of_the_data(headrace, make_tiny):
    tiny = make_tiny()
    artifact = tiny.build(["clean"])["clean"]
    artifact.folder.write_bytes("manifest.json", b"{")
    assert "cannot be read" in headrace("show", artifact.folder.url, *tiny.overrides).error(3)


def test_looking_starts_without_the_heavy_libraries(tiny):
    code = (
        "import sys; from pipeline.cli import main; code = main(sys.argv[1:]);"
        "print([name for name in ('torch', 'ray', 'mlflow', 'deepspeed', 'transformers') if name in sys.modules],"
        " file=sys.stderr); sys.exit(code)"
    )
    for argv in (["show", "export"], ["diff", "clean", "dedup"], ["inspect", "tokens"], ["gc", "--dry-run"]):
        command = [sys.executable, "-c", code, *argv, *tiny.overrides]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.strip() == "[]", argv


def test_json_of_every_kind_can_be_parsed(look):
    for node in ("corpus", "tokenizer", "score", "base"):
        assert json.loads(look("show", node, "--json").out)["node"] == node


def test_a_global_batch_names_its_documents_down_to_the_token(look):
    facts = look("show", "base", "--sequence", "1", "--json").json
    assert len(facts["sequences"]) == 2
    ids = {row["id"] for row in look("inspect", "tokens/train", "--json", "--limit", "99").rows}
    for sequence in facts["sequences"]:
        assert sequence["source"] == "tokens"
        assert {document["id"] for document in sequence["documents"]} <= ids
        assert (
            sum(document["tokens"] for document in sequence["documents"]) == 33
        )  # 32 inputs, and the last target
    said = look("show", "base", "--sequence", "1").out
    assert all(document["id"] in said for document in facts["sequences"][0]["documents"])


def test_what_has_no_global_batch_is_refused(look):
    assert "trains nothing" in look("show", "clean", "--sequence", "0").error()
    assert "0 to 1" in look("show", "base", "--sequence", "2").error()
