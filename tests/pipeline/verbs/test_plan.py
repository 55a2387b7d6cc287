import subprocess
import sys

import pytest


def statuses(said):
    return {node["node"]: node["status"] for node in said.json["nodes"]}


def test_a_finished_recipe_is_all_reused(look):
    assert set(statuses(look("plan", "--json")).values()) == {"reuse"}
    assert "12 reused" in look("plan").out


def test_a_changed_rule_says_which_and_what_waits_for_it(look, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    said = look("plan", "--json", "stages.clean.rules.min_words=5")
    nodes = {node["node"]: node for node in said.json["nodes"]}
    assert nodes["corpus"]["status"] == "reuse"
    assert nodes["clean"]["reasons"] == ["rules.min_words: 3 → 5"]
    assert nodes["dedup"]["status"] == "wait"
    assert "rules.min_words: 3 → 5" in look("plan", "stages.clean.rules.min_words=5").out


def test_the_named_nodes_and_what_they_need(look):
    assert list(statuses(look("plan", "tokenizer", "--json"))) == [
        "corpus",
        "clean",
        "dedup",
        "split",
        "tokenizer",
    ]


def test_training_is_estimated_beforehand(look):
    nodes = look("plan", "base", "--json", "stages.base.num_steps=7").json["nodes"]
    (base,) = [node for node in nodes if node["node"] == "base"]
    assert base["estimate"]["tokens"] == 7 * 64
    assert base["estimate"]["GiB total"] > 0
    assert "GiB per rank" in look("plan", "base", "stages.base.num_steps=7").out


def test_a_training_may_be_as_long_as_so_many_tokens_or_epochs(look):
    def estimate(*overrides):
        said = look("plan", "base", "--json", "stages.base.num_steps=null", *overrides)
        return next(node["estimate"] for node in said.json["nodes"] if node["node"] == "base")

    assert estimate("stages.base.num_tokens=650")["steps"] == 11
    once, thrice = (estimate(f"stages.base.num_epochs={epochs}")["tokens"] for epochs in (10, 30))
    assert thrice == pytest.approx(3 * once, rel=0.1)
    error = look("plan", "stages.base.num_tokens=650").error()
    assert "num_steps and num_tokens both say how long to train" in error


def test_time_is_foretold_from_what_the_store_has_seen(look):
    def seconds(*overrides):
        return {node["node"]: node["seconds"] for node in look("plan", "--json", *overrides).json["nodes"]}

    assert set(seconds().values()) == {None}  # nothing to build, nothing to wait for
    once, thrice = seconds("stages.base.num_steps=7")["base"], seconds("stages.base.num_steps=21")["base"]
    assert thrice == pytest.approx(3 * once)
    changed = seconds("stages.clean.rules.min_words=5")
    assert all(changed[node] is not None for node in changed if node != "corpus")  # to the end of the graph
    assert (
        "2 to run" in (said := look("plan", "base", "stages.base.num_steps=7", "stages.base.seed=3").out)
        or said
    )
    assert ", about " in said


def test_a_pin_stands_in_for_a_node(look):
    key = look("show", "dedup", "--json").json["key"]
    said = look("plan", "split", "--pin", f"clean={key[:10]}", "--json")
    assert statuses(said)["clean"] == "pinned"
    assert "names no artifact" in look("plan", "--pin", "clean").error()
    assert "no node" in look("plan", "--pin", f"claen={key}").error()
    kind = look("plan", "--pin", f"tokenizer={key}").error()
    assert "gives tokenizer, but the artifact is of the kind documents" in kind


def test_a_changed_byte_of_the_corpus_is_seen(headrace, make_tiny):
    tiny = make_tiny()
    tiny.build(["clean"])
    path = tiny.recipe.parent / "corpus" / "water_00.py"
    path.write_text(path.read_text().replace("Turn", "Burn"))
    nodes = headrace("plan", "clean", "--json", *tiny.overrides).json["nodes"]
    assert nodes[0]["reasons"] == ["the files it reads have changed"]


def test_an_artifact_changed_by_hand_is_refused(headrace, make_tiny):
    tiny = make_tiny()
    built = tiny.build(["clean"])
    folder = built["clean"].folder
    folder.write_bytes("documents-00000.arrow", folder.read_bytes("documents-00000.arrow") + b"x")
    error = headrace("plan", *tiny.overrides).error(3)
    assert "documents-00000.arrow" in error
    assert "SHA-256" in error


@pytest.mark.parametrize(
    ("argv", "words", "code"),
    [
        (["claen"], 'did you mean "clean"?', 2),
        (["--jason"], "unrecognized arguments: --jason", 2),
        (["stages.corpus.paths=[/nowhere]"], "/nowhere", 3),
        (["store=ftp://host/path"], 'the location "ftp://host/path" cannot be opened', 2),
    ],
)
def test_what_cannot_be_planned_is_refused(look, headrace, tiny, argv, words, code):
    said = headrace("plan", f"recipe={tiny.recipe}", *argv) if "store=" in argv[0] else look("plan", *argv)
    assert words in said.error(code)


def test_an_unknown_verb_is_refused(headrace):
    assert 'did you mean "plan"?' in headrace("paln").error()


def test_help_names_every_verb_and_version_says_ours(headrace):
    said = headrace("--help")
    assert said.code == 0
    for verb in ("run", "plan", "graph", "show", "diff", "inspect", "generate", "gc"):
        assert f"\n  {verb} " in said.out
    assert headrace("--version").out.startswith("headrace ")


def test_planning_loads_no_heavy_library(tiny):
    code = (
        "import sys; from pipeline.cli import main; main(sys.argv[1:]);"
        "print([name for name in ('torch', 'ray', 'mlflow', 'deepspeed') if name in sys.modules], file=sys.stderr)"
    )
    for verb in ("plan", "run"):
        command = [sys.executable, "-c", code, verb, *tiny.overrides]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]", verb


def on_gpus(look, gib: float, *more: str):
    gpus = [
        "resources.base.num_workers=2",
        "resources.base.num_gpus=1",
        f"resources.base.gpu_memory_gib={gib}",
    ]
    return look("plan", "base", "--json", "stages.base.model.vocab_size=512", *gpus, *more)


def test_the_settings_for_gpus_that_are_not_here_are_said(look):
    settings = ["stages.base.num_steps=3", "stages.base.global_batch_tokens=65536"]
    said = on_gpus(look, 80, *settings)
    assert said.code == 0, said.err
    (row,) = [row for row in said.json["nodes"] if row["node"] == "base"]
    (remark,) = row["remarks"]
    assert remark.startswith("ZeRO 1, a micro batch of 256: ")
    assert remark.endswith("of 73.6 GiB")
    assert row["estimate"]["host GiB"] == row["estimate"]["GiB copies"] > 0, (
        "a checkpoint's copy is on the host"
    )
    larger = [
        f"stages.base.model.{size}" for size in ("hidden_size=1024", "intermediate_size=4096", "num_layers=8")
    ]
    (row,) = [row for row in on_gpus(look, 4, *settings, *larger).json["nodes"] if row["node"] == "base"]
    assert "would take" in row["remarks"][0]


def test_a_model_that_does_not_fit_is_refused_with_what_would(look):
    said = on_gpus(look, 0.001, "stages.base.num_steps=3").error()
    assert "the model does not fit" in said
    assert "do:" in said
