"""Training under a real Ray: ranks killed at any moment, failures told by their cause, no noise."""

import os
import random
import signal
import time

import psutil
import pytest

from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError, HeadraceError, StageFailedError
from pipeline.training.allocation import ALLOCATION
from pipeline.training.job import Places
from pipeline.training.placement import settled
from pipeline.training.workers import launch
from tests.pipeline.training.conftest import KILLED, KILLED_STEPS

slow = pytest.mark.slow


@slow
def test_a_killed_rank_comes_back_and_the_bytes_are_the_same(launcher, whole):
    job, weights = whole
    thread, outcome = launcher.start(job, "killed", **KILLED)
    launcher.wait_for_checkpoint("killed")
    time.sleep(random.random() / 2)
    victims = launcher.rank_processes()
    assert len(victims) == 2
    assert all(victim.environ().items() >= ALLOCATION.items() for victim in victims)  # as they were started
    os.kill(random.choice(victims).pid, signal.SIGKILL)
    thread.join(timeout=300)
    assert outcome["result"].counters["steps"] == KILLED_STEPS
    assert any("resumed from the checkpoint of step" in note for note in launcher.notes())
    assert launcher.weights("killed") == weights
    lines = (launcher.root / "killed/output/logs/metrics.jsonl").read_text().splitlines()
    assert sum('"train/loss"' in line for line in lines) == KILLED_STEPS


@pytest.mark.soak
def test_a_failure_that_would_happen_again_is_told_at_once(launcher, make_job):
    started_at = time.monotonic()
    with pytest.raises(StageFailedError) as raised:
        launcher.run(make_job(learning_rate=1e25, warmup_steps=0), "diverged", num_workers=2)
    assert "before the update" in raised.value.what
    assert raised.value.where.startswith("first on rank ")
    assert not any("resumed" in note for note in launcher.notes())
    assert time.monotonic() - started_at < 90


@slow
def test_tokens_of_another_tokenizer_are_refused_as_wrong_data(launcher, make_job):
    job = make_job(job={"tokenizer_hash": "0" * 16})
    with pytest.raises(HeadraceError, match="tokenizer") as raised:
        launcher.run(job, "mismatch", num_workers=1)
    assert raised.value.exit_code == 3


@slow
def test_a_rank_that_is_always_lost_ends_the_run_in_words(launcher, make_job):
    thread, outcome = launcher.start(
        make_job(num_steps=5000), "lost", num_workers=1, max_failures=0, checkpoint_every_steps=5
    )
    launcher.wait_for_checkpoint("lost")
    for process in launcher.rank_processes():
        os.kill(process.pid, signal.SIGKILL)
    thread.join(timeout=120)
    assert "rank 0 was lost" in outcome["error"].what
    assert "goes on from the last checkpoint" in outcome["error"].do


@slow
def test_a_training_that_is_given_up_ends_its_ranks(launcher, make_job):
    thread, outcome = launcher.start(
        make_job(num_steps=50_000), "given-up", num_workers=1, checkpoint_every_steps=5
    )
    launcher.wait_for_checkpoint("given-up")
    ranks = launcher.rank_processes()
    launcher.stop.set()
    thread.join(timeout=20)
    assert "given up" in outcome["error"].what
    assert len(ranks) == 1
    assert psutil.wait_procs(ranks, timeout=20)[1] == []


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_starts(monkeypatch, make_job, tmp_path):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 3.0})
    folder = open_folder(str(tmp_path))
    with pytest.raises(ConfigError, match="8 sequences cannot be shared evenly among 3 ranks"):
        launch(
            make_job(),
            resources=Resources(num_workers=3),
            channel=None,
            places=Places(folder, folder),
            vocab_size=96,
        )


@pytest.mark.parametrize(
    ("asked", "cluster", "workers", "gpus", "threads"),
    [
        (Resources(), {"CPU": 2.0}, 2, 0, 1),
        (Resources(num_workers=2), {"CPU": 2.0}, 2, 0, 1),
        (Resources(), {"CPU": 1.0}, 1, 0, 1),
        (Resources(cpus_per_worker=1), {"CPU": 8.0}, 2, 0, 1),
        (Resources(), {"CPU": 64.0, "GPU": 8.0}, 8, 1, 8),
        (Resources(num_workers=2), {"CPU": 64.0, "GPU": 8.0}, 2, 1, 8),
        (Resources(num_gpus=0), {"CPU": 16.0, "GPU": 8.0}, 2, 0, 8),
        (Resources(), {"CPU": 64.0, "GPU": 7.0}, 6, 1, 9),
    ],
)
def test_what_is_left_open_is_filled_in_from_the_cluster(asked, cluster, workers, gpus, threads):
    found = settled(asked, cluster, sequences_per_step=24)
    assert (found.num_workers, found.num_gpus, found.cpus_per_worker) == (workers, gpus, threads)


@pytest.mark.parametrize(
    ("asked", "cluster", "words"),
    [
        (Resources(num_workers=4), {"CPU": 2.0}, "4 ranks need 4 CPUs, and the cluster has 2"),
        (Resources(num_workers=2, num_gpus=1), {"CPU": 2.0}, "2 ranks need 2 GPUs, and the cluster has 0"),
        (Resources(num_workers=1, num_gpus=1), {"CPU": 2.0}, "1 rank needs 1 GPU, and the cluster has 0"),
        (
            Resources(num_workers=1, cpus_per_worker=3),
            {"CPU": 2.0},
            "1 rank needs 3 CPUs, and the cluster has 2",
        ),
    ],
)
def test_more_than_the_cluster_has_is_refused(asked, cluster, words):
    with pytest.raises(ConfigError) as refused:
        settled(asked, cluster, sequences_per_step=8)
    assert refused.value.what == words
    assert refused.value.where == "resources"
    assert refused.value.allowed.startswith("at most ")
    assert "num_workers" in refused.value.do
