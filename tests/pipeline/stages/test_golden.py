"""Each deterministic stage on a small fixed input: its version and the digest of what it writes.

Where a digest changes, the stage has come to mean something else: raise its `version`, and pin both anew.
"""

import pytest

from pipeline.dag.store import Store
from pipeline.stages import STAGES

PINNED: dict[str, tuple[int, str]] = {
    "corpus": (
        2,
        "8fbc7d8d63493e5eec3ab3efb1131adb220f5c0ecc02fbd56be303f3626b50c4",
    ),
    "clean": (
        2,
        "71026e249ad0b73485e9fc3bf5856d77306ad2aa14cf085bdd01370f29dcb7a3",
    ),
    "dedup": (
        1,
        "9ee1a3b03a8a32c303ac9d0237b626739c14f1171d5a4ffedf04d14d4d721576",
    ),
    "split": (
        1,
        "8a0850829500bc36ef93accd50f1862b0f11c080fd053cd46d8aae424c798177",
    ),
    "clear": (
        1,
        "db60413fef85cbfcad4f7506efab124ee53b37fe3c050262822bbf1bf83446a1",
    ),
    "pairs": (
        1,
        "5fc77186fcd8141a002ee06613fd3004eb4e05bb78202edf2e7101713df8d1a1",
    ),
    "tokenizer": (
        1,
        "8e4b56bf77d7d762631573e8cab562c74a1add361881899bc0b222df86f4e57f",
    ),
    "imported": (
        1,
        "2f83a7acb209d1b267f14b2ca76668482c7d1c97f324c0f07ffeaa249451ef83",
    ),
    "tokens": (
        1,
        "effa2ee61126c4fd8f9a66d37cab672f8efce423e68489ca54cefd8a5a4cca9f",
    ),
    "pair_tokens": (
        1,
        "ea549d33006103c100a5f5150d052038d79e82a9debbeafe22ad7b86d1691791",
    ),
    "report": (
        1,
        "4f3d293ab8f752028378b4955607581c4c0dec30bfbfed548fc6fa40ae7819d6",
    ),
    "vectors": (
        1,
        "857f2119c224058efcaecfccf6b1b17a1391ad7222d3462468ba4ac244be9ff2",
    ),
    "vectors_file": (
        1,
        "ddf8be57a509cb11dc45b97bf3243a22bc593f2a538c9507e72d5005bec785ea",
    ),
}


BESIDE = {
    "decontaminate@stages.clear": "inputs: {documents: split/train, references: [split/test, pairs/validation]}, "
    "rules: {ngram_words: 7}",
    "data_report@stages.report": "inputs: {artifacts: [clean, split/train, pairs, tokens]}",
    "import_vectors@stages.vectors": "path: FOLDER/ours.vec",
    "export_vectors@stages.vectors_file": "inputs: {vectors: vectors}, form: binary",
}
"Nodes that the tiny recipe is too small to have for every test."


@pytest.fixture(scope="module")
def built(tiny, make_tiny):
    """The manifests of the finished tiny store, by node; and those of nodes beside them."""
    found = {artifact.manifest.node: artifact.manifest for artifact in Store(tiny.url).artifacts()}
    store = make_tiny()
    defaults = "".join(f"  - /stage/{default}\n" for default in BESIDE)
    (store.recipe.parent / "ours.vec").write_text("2 3\nwater 0.5 -1 0.1\nwheel 1e-05 0 2\n")
    nodes = {default.rpartition(".")[2]: settings for default, settings in BESIDE.items()}
    recipe = store.recipe.read_text().replace("  - _self_\n", f"{defaults}  - _self_\n")
    recipe += "".join(f"  {node}: {{{settings}}}\n" for node, settings in nodes.items())
    store.recipe.write_text(recipe.replace("FOLDER", str(store.recipe.parent)))
    artifacts = store.build(list(nodes))
    return found | {node: artifacts[node].manifest for node in nodes}


@pytest.mark.parametrize(
    "node",
    list(PINNED),
)
def test_a_stage_of_this_version_writes_these_bytes(built, node):
    manifest = built[node]
    assert (manifest.payload["version"], manifest.digest) == PINNED[node]


def test_every_deterministic_stage_is_pinned(built):
    """Training, scoring and exporting are floating-point sums, as are word vectors; registering writes into MLflow."""
    training = {"word_vectors", "pretrain", "finetune"}
    left_out = training | {"evaluate_vectors", "evaluate", "compare", "export", "register"}
    assert {built[node].stage for node in PINNED} == {stage.name for stage in STAGES} - left_out


def test_a_second_build_elsewhere_writes_the_same_bytes(make_tiny, built):
    again = make_tiny().build(["tokens", "pair_tokens"])
    assert {node: artifact.manifest.digest for node, artifact in again.items()} == {
        node: built[node].digest for node in again
    }
