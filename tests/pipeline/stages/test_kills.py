"""Every data stage, killed: a worker in the middle of an item, or the driver between items, costs that item alone."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cluster import ClusterConfig, connected
from pipeline.stages import STAGES

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
CORES = 2
OVERRIDES = ["stages.corpus.shard_bytes=1500", "stages.dedup.match=near", "stages.dedup.near.num_bands=3"]
BESIDE = {
    "decontaminate@stages.clear": "inputs: {documents: split/train, references: [split/test, pairs/validation]}",
    "word_vectors@stages.vectors": "inputs: {tokens: tokens/train, tokenizer: tokenizer}, algorithm: glove, width: 4",
    "data_report@stages.report": "inputs: {artifacts: [clean, split/train, pairs, tokens]}",
}
"Nodes that the tiny recipe is too small to have for every test."
MAPS = {
    "corpus": ["survey_spans", "ingest_shard"],
    "clean": ["clean_shard"],
    "dedup": ["sketch_shard", "pair_bucket", "join_pairs", "filter_shard"],
    "split": ["split_shard"],
    "clear": ["hash_reference", "merge_reference", "filter_shard"],
    "pairs": ["make_examples"],
    "tokenizer": ["learn"],
    "imported": ["import_files"],
    "tokens": ["check_encoder", "survey_shard", "tokenize_part", "join_parts", "tokenize_shard"],
    "pair_tokens": ["check_encoder", "tokenize_shard"],
    "vectors": ["count_tokens", "count_shard_pairs", "sum_part", "learn_glove"],
    "report": ["profile_shard"],
}
"What each node does in tasks, in order."


@dataclass
class Killed:
    """What came of a store that was filled under kills."""

    codes: list[int]
    "How each driver ended."
    digests: dict[str, str]
    failed: dict[str, str]
    "Node to where."
    begun: Counter
    "(node, function, item) to how often it was begun."
    died: Counter
    "The same of items that took their worker with them."

    def repeated(self, node: str | None = None) -> int:
        """Items begun once more than once, each time counted."""
        return sum(times - 1 for (of, _, _), times in self.begun.items() if node in (None, of))


@pytest.fixture(scope="module")
def address():
    with connected(ClusterConfig(num_cpus=CORES), on_loss=lambda: None):
        import ray

        yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def undisturbed(make_tiny):
    """A store with every data node's artifact, built without Ray; and their digests."""
    store = make_tiny()
    rows = [
        json.dumps({"text": f"The miller counts {n} sacks of grain, and {n * n} stones."}) for n in range(60)
    ]
    (store.recipe.parent / "corpus" / "sacks.jsonl").write_text("\n".join(rows))
    (store.recipe.parent / "corpus" / "long.txt").write_text("\n".join(rows))
    defaults = "".join(f"  - /stage/{default}\n" for default in BESIDE)
    nodes = "".join(f"  {name.rpartition('.')[2]}: {{{settings}}}\n" for name, settings in BESIDE.items())
    recipe = store.recipe.read_text().replace("  - _self_\n", f"{defaults}  - _self_\n") + nodes
    store.recipe.write_text(recipe)
    artifacts = store.build(list(MAPS), OVERRIDES)
    return store, {node: artifacts[node].manifest.digest for node in MAPS}


@pytest.fixture(scope="module")
def drive(undisturbed, address, tmp_path_factory):
    """Fill a new store from the undisturbed one's artifacts, every data stage at once, by one driver after another."""
    store, _ = undisturbed

    def fill(*drivers: list[str]) -> Killed:
        folder = tmp_path_factory.mktemp("killed")
        module = ["-m", "tests.pipeline.stages.killing", "--address", address, "--folder", str(folder)]
        codes = []
        for words in drivers:
            command = [sys.executable, *module, *store.overrides, *OVERRIDES, *words]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
            codes.append(done.returncode)
        assert codes[-1] == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        begun, died = (noted(folder / f"{name}.jsonl") for name in ("begun", "died"))
        return Killed(codes, result["digests"], result["failed"], begun, died)

    return fill


def noted(path):
    return (
        Counter(tuple(json.loads(line)) for line in path.read_text().splitlines())
        if path.exists()
        else Counter()
    )


@pytest.fixture(scope="module")
def without_workers(drive):
    return drive(["--kill-workers"])


@pytest.fixture(scope="module")
def without_drivers(drive):
    last = [f"{node}={functions[-1]}" for node, functions in MAPS.items()]
    return drive(["--die"], ["--die", "--gate", *last], [])


def test_every_data_stage_is_here(undisturbed):
    store, _ = undisturbed
    stages = {artifact.manifest.stage for artifact in store.build(list(MAPS), OVERRIDES).values()}
    no_data = {"pretrain", "finetune", "evaluate", "compare", "export", "register"}
    one_task = {"import_vectors", "evaluate_vectors", "export_vectors"}
    assert stages == {stage.name for stage in STAGES} - no_data - one_task


def test_a_worker_that_is_lost_for_good_is_told_with_the_files_that_it_read(drive):
    """As where a damaged file ends the process that reads it."""
    killed = drive(["--kill-workers", "ingest_shard", "--only", "corpus", "--max-failures", "0"])
    ((_, _, item),) = killed.died
    assert killed.digests == {}
    assert f"item {item}, which reads " in killed.failed["corpus"]
    assert killed.failed["corpus"].count("/corpus/") > 1


@pytest.mark.parametrize("node", MAPS)
def test_a_worker_killed_in_the_middle_of_an_item_costs_that_item(undisturbed, without_workers, node):
    died = Counter(function for of, function, _ in without_workers.died if of == node)
    assert list(died) == MAPS[node]
    assert without_workers.repeated(node) <= died.total()
    assert without_workers.failed == {}
    assert without_workers.digests[node] == undisturbed[1][node]


@pytest.mark.parametrize("node", MAPS)
def test_a_driver_killed_between_items_costs_what_was_in_work(undisturbed, without_drivers, node):
    assert without_drivers.failed == {}
    assert without_drivers.digests[node] == undisturbed[1][node]
    assert without_drivers.codes == [-9, -9, 0]
    assert without_drivers.repeated() <= 2 * CORES
