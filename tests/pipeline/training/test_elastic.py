"""Trainings on a cluster whose nodes go and come back: fewer ranks, more again, the same batches and losses."""

import json
import random
import re
import time
from dataclasses import replace

import pytest

from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError
from pipeline.training.placement import settled, world_sizes
from tests.pipeline.training.conftest import tiny_training
from tests.pipeline.training.launcher import Launcher

slow = pytest.mark.slow
NUM_STEPS = 2500


@pytest.fixture(scope="module")
def cluster():
    """A head with one core; the tests add and remove nodes with one more each."""
    import ray
    from ray._common.utils import reset_ray_address
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    reset_ray_address()  # else every ray.init of this machine would join
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def second(cluster):
    """A node with the second core; whatever is left of it or came in its place goes with the test."""
    yield cluster.add_node(num_cpus=1)
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def launcher(cluster, tmp_path, monkeypatch):
    import ray

    from pipeline.training import elastic

    monkeypatch.setattr(elastic, "GROW_SECONDS", 1.0)
    launcher = Launcher(ray, tmp_path)
    launcher.pending = []
    return launcher


def wait_for_note(launcher, said, words):
    """The first note with these words after the last one that was waited for; all that came is in `said`."""
    deadline = time.monotonic() + 90
    while True:
        for note in launcher.notes():
            said.append(note)
            launcher.pending.append(note)
        while launcher.pending:
            if words in (note := launcher.pending.pop(0)):
                return note
        assert time.monotonic() < deadline, (words, said)
        time.sleep(0.05)


def losses(launcher, name):
    lines = (launcher.root / name / "output/logs/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {
        each["step"]: each["metrics"]["train/loss"] for each in records if "train/loss" in each["metrics"]
    }


def drain(cluster, node, *, seconds):
    """Tell the cluster that a node will be taken away, as an autoscaler does on a cloud's word."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = int(1000 * (time.time() + seconds))
    accepted, why = GcsClient(address=cluster.address).drain_node(node.node_id, reason, "taken", deadline)
    assert accepted, why


@slow
@pytest.mark.soak
def test_nodes_go_and_come_back_and_training_goes_on(cluster, second, launcher, make_job, here):
    """One is taken away with notice and one without; none of it counts as a failure, and no batch is another."""
    job = make_job(num_steps=NUM_STEPS)
    resources = {"num_workers": 2, "min_workers": 1, "max_failures": 0, "checkpoint_every_steps": 50}
    thread, outcome = launcher.start(job, "moving", **resources)
    said = []
    wait_for_note(launcher, said, "on 2 of 2 ranks")
    launcher.wait_for_checkpoint("moving")
    drain(cluster, second, seconds=60)
    told = wait_for_note(launcher, said, "is being drained")
    step = int(re.search(r"after a checkpoint at step (\d+) training starts again", told)[1])
    wait_for_note(launcher, said, "on 1 of 2 ranks")
    assert f"resumed from the checkpoint of step {step}" in said
    third = cluster.add_node(num_cpus=1)
    wait_for_note(launcher, said, "there is room for 2 ranks: after a checkpoint at step")
    wait_for_note(launcher, said, "on 2 of 2 ranks")
    lost_at = time.monotonic()
    cluster.remove_node(third, allow_graceful=False)
    wait_for_note(launcher, said, "on 1 of 2 ranks")
    assert time.monotonic() - lost_at < 60
    thread.join(timeout=120)
    assert outcome["result"].counters["steps"] == NUM_STEPS
    here.run(job, "still", checkpoint_every_steps=NUM_STEPS)
    moved = losses(launcher, "moving")
    assert list(moved) == list(range(1, NUM_STEPS + 1))
    assert list(moved.values()) == pytest.approx(here.losses("still"), abs=1e-3)


@slow
@pytest.mark.soak
def test_a_fixed_number_of_ranks_moves_where_there_is_room(cluster, second, launcher, make_job):
    cluster.add_node(num_cpus=1)
    thread, outcome = launcher.start(make_job(num_steps=NUM_STEPS), "moved", num_workers=2, max_failures=0)
    said = []
    wait_for_note(launcher, said, "ready")
    launcher.wait_for_checkpoint("moved")
    drain(cluster, node_of_a_rank(cluster), seconds=60)
    told = wait_for_note(launcher, said, "is being drained")
    assert "training starts again" in told
    thread.join(timeout=120)
    assert outcome["result"].counters["steps"] == NUM_STEPS


def node_of_a_rank(cluster):
    """A node other than the head whose core is taken."""
    from ray._private.state import state

    free = state.available_resources_per_node()
    return next(node for node in cluster.worker_nodes if not free[node.node_id].get("CPU"))


@slow
@pytest.mark.soak
def test_whatever_becomes_of_machines_and_ranks_the_run_completes(cluster, launcher, make_job):
    """At random moments, for as long as it takes: at least ten times."""
    job, draw = make_job(num_steps=6 * NUM_STEPS), random.Random(0)
    cluster.add_node(num_cpus=1)
    resources = {"num_workers": 2, "min_workers": 1, "checkpoint_every_steps": 20}
    thread, outcome = launcher.start(job, "moving", **resources)
    said, done = [], []
    wait_for_note(launcher, said, "ready")
    while thread.is_alive():
        time.sleep(draw.uniform(1, 12))
        done.append(strike(cluster, launcher, draw))
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node, allow_graceful=False)
    assert "error" not in outcome, (outcome, done, said + launcher.notes())
    assert len(done) >= 10
    launcher.run(job, "still", num_workers=1)
    moved, still = losses(launcher, "moving"), losses(launcher, "still")
    assert list(moved) == list(still)
    assert list(moved.values()) == pytest.approx(list(still.values()), abs=1e-3)


def strike(cluster, launcher, draw):
    """Take a machine away, with notice or without, or bring one back, or end a rank; what it was."""
    if not cluster.worker_nodes:
        cluster.add_node(num_cpus=1)
        return "a node comes"
    what = draw.choice(["a node goes", "a node is drained and goes", "a rank ends"])
    if what == "a rank ends":
        for process in draw.sample(ranks := launcher.rank_processes(), min(1, len(ranks))):
            process.kill()
        return what
    node = next(iter(cluster.worker_nodes))
    if "drained" in what:
        drain(cluster, node, seconds=10)
        time.sleep(10)
    cluster.remove_node(node, allow_graceful=False)
    return what


def test_world_sizes_share_the_batch_out():
    eight = tiny_training()  # 8 sequences a step
    assert world_sizes(eight, Resources(num_workers=8, min_workers=1)) == [8, 4, 2, 1]
    assert world_sizes(eight, Resources(num_workers=8, min_workers=3)) == [8, 4]
    assert world_sizes(eight, Resources(num_workers=4, min_workers=1, micro_batch_size=2)) == [4, 2, 1]
    assert world_sizes(eight, Resources(num_workers=2, min_workers=1, micro_batch_size=4)) == [2, 1]


def test_more_ranks_at_least_than_at_most_are_refused():
    with pytest.raises(ConfigError) as refused:
        world_sizes(tiny_training(), Resources(num_workers=2, min_workers=4))
    assert refused.value.where == "resources.min_workers"


def test_an_elastic_training_needs_no_more_than_its_least():
    asked = Resources(num_workers=4, min_workers=2)
    assert settled(asked, {"CPU": 2.0}, sequences_per_step=8).num_workers == 4
    with pytest.raises(ConfigError, match="3 ranks need 3 CPUs") as refused:
        settled(replace(asked, min_workers=3), {"CPU": 2.0}, sequences_per_step=8)
    assert "min_workers" in refused.value.do
