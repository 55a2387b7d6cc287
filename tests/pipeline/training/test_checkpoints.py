"""Checkpoints while training goes on: full disks, kept ones, a part that never comes, kills at any moment."""

import contextlib
import random
import re
import resource
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dag.folder import Folder
from pipeline.errors import StageFailedError
from pipeline.training import checkpointer, writing
from pipeline.training.checkpoint import MANIFEST, newest_whole, steps_begun, steps_saved
from pipeline.training.ranks import Ranks

ALONE = Ranks(rank=0, world_size=1)


def are_whole(scratch: Folder) -> bool:
    """Whether every checkpoint that has a manifest is whole by its digests."""
    for step in steps_saved(scratch):
        folder = scratch.child(f"step-{step:08d}")
        files = folder.read_json(MANIFEST)["files"]
        if any(folder.digest(name) != file["sha256"] for name, file in files.items()):
            return False
    return True


@contextlib.contextmanager
def largest_file(num_bytes: int):
    """No file of this process grows larger: its writes fail as on a full disk, for the time being."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(checkpointer, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(writing, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of its own with 1 MiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_once_and_does_not_stop_training(here, make_job, small_disk, impatient):
    """It is full from the beginning, and has room again from step 9 on, when the notes have come."""
    job = make_job(eval_every_steps=0)
    here.run(job, "roomy", checkpoint_every_steps=100)
    (here.root / "run").mkdir()
    (here.root / "run/scratch").symlink_to(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1000 << 10))
    send, told = here.channel.send, []

    def make_room(event: dict) -> None:
        send(event)
        if event["kind"] == "note" and "is given up" in event["text"]:
            ballast.unlink(missing_ok=True)
        if event["kind"] == "note" and "step" in event["text"]:
            told.append(event["text"])

    here.channel.send = make_room
    here.run(job, "run", checkpoint_every_steps=4)
    outages = [text for text in told if "cannot be written to" in text]
    assert len(outages) == 1
    assert "step 4 " in outages[0]
    assert "No space left on device" in outages[0]
    assert "the checkpoint of step 4 is given up" in here.notes()
    assert "is written; 1 before it given up" in here.notes()
    assert here.weights("run") == here.weights("roomy")


def test_a_store_that_refuses_again_and_again_stops_the_run_in_words(here, make_job, impatient):
    with largest_file(50_000), pytest.raises(StageFailedError) as raised:
        here.run(make_job(num_steps=2000), "run", checkpoint_every_steps=2)
    error = raised.value
    assert "checkpoints in a row could not be written: File too large" in error.what
    assert str(here.root / "run/scratch") in error.where
    assert error.allowed
    assert "begins again" in error.do
    assert here.notes().count("cannot be written to") == 1


def test_a_moments_outage_stops_no_run_however_short_its_steps(here, make_job):
    """The store takes nothing before the last step, and every step before it has a checkpoint."""
    send, outage = here.channel.send, contextlib.ExitStack()

    def mend(event: dict) -> None:
        send(event)
        if event["kind"] == "metrics" and event["step"] == 8:
            outage.close()

    here.channel.send = mend
    with outage:
        outage.enter_context(largest_file(50_000))
        here.run(make_job(num_steps=8), "run", checkpoint_every_steps=1)
    assert re.search(r"the checkpoint of step [78] is written; [67] before it given up", here.notes())
    assert here.notes().count("is given up for a newer one") == 1


def test_a_final_checkpoint_that_cannot_be_written_stops_the_run(here, make_job, impatient):
    with (
        largest_file(50_000),
        pytest.raises(StageFailedError, match="the final checkpoint could not be written"),
    ):
        here.run(make_job(num_steps=3), "run", checkpoint_every_steps=5)
    here.run(make_job(num_steps=3), "run", checkpoint_every_steps=5)
    assert (here.root / "run/output/model.safetensors").exists()


def test_permanent_checkpoints_stay_beside_the_newest_two(here, make_job):
    resources = {"checkpoint_every_steps": 2, "keep_checkpoints_every_steps": 3}
    here.run(make_job(num_steps=11), "run", **resources)
    scratch, _ = here.folders("run")
    assert steps_saved(scratch) == [3, 6, 9, 10, 11]
    assert are_whole(scratch)
    kinds = {step: scratch.read_json(f"step-{step:08d}/{MANIFEST}")["kind"] for step in (3, 10)}
    assert kinds == {3: "permanent", 10: "ephemeral"}
    # What was permanent once stays, also where fewer are kept from now on.
    here.run(make_job(num_steps=15), "run", checkpoint_every_steps=2)
    assert steps_saved(scratch) == [3, 6, 9, 14, 15]


def test_torn_checkpoints_and_damaged_ones_take_up_no_place(here, make_job):
    here.run(make_job(), "run", checkpoint_every_steps=5)
    scratch, _ = here.folders("run")
    (here.root / "run/scratch/step-00000003").mkdir()
    (here.root / "run/scratch/step-00000003/rank-00000-of-00001.safetensors").write_bytes(b"torn")
    damaged = here.root / "run/scratch/step-00000012/rank-00000-of-00001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    here.run(make_job(num_steps=14), "run", checkpoint_every_steps=13)
    assert "checkpoint of step 12 is damaged" in here.notes()
    assert steps_begun(scratch) == [13, 14]


def test_a_run_that_stops_early_leaves_its_last_checkpoint_whole(here, make_job):
    with pytest.raises(StageFailedError, match="before the update"):
        here.run(make_job(learning_rate=1e25, warmup_steps=0), "run", checkpoint_every_steps=1)
    scratch, _ = here.folders("run")
    assert len(steps_saved(scratch)) >= 1
    assert are_whole(scratch)


def test_whatever_is_cut_or_altered_training_goes_on_from_the_one_before(here, make_job):
    """Any byte of any file of the newest checkpoint."""
    here.run(make_job(), "run", checkpoint_every_steps=5)
    scratch, _ = here.folders("run")
    good, _ = newest_whole(scratch, ALONE)
    names = [*sorted(good["files"]), MANIFEST]

    @given(st.sampled_from(names), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
    def check(name: str, place: float, byte: int) -> None:
        """The byte becomes `byte`; where it is that already, the file ends before it."""
        path = here.root / "run/scratch/step-00000012" / name
        content = path.read_bytes()
        index = int(place * len(content))
        rest = content[index + 1 :] if content[index] != byte else b""
        path.write_bytes(content[:index] + (bytes([byte]) + rest if rest else b""))
        found, notes = newest_whole(scratch, ALONE)
        path.write_bytes(content)
        if found["step"] == 12:
            assert (name, found) == (MANIFEST, good), "other white space"
        else:
            assert found["step"] == 10
            assert "checkpoint of step 12 is damaged" in notes[0]

    check()


@pytest.mark.soak
def test_two_ranks_killed_at_any_moment_leave_a_checkpoint_to_go_on_from(runs, make_job):
    """With a checkpoint after every step, some thread is writing nearly always."""
    job = make_job(num_steps=60)
    resources = {"checkpoint_every_steps": 1, "zero_stage": 2}
    draw = random.Random(0)
    runs.run([runs.order(job, "undisturbed", **resources)], world_size=2)
    order = runs.order(job, "killed", **resources)
    reached = []
    for _ in range(4):
        ranks = runs.start([order], world_size=2)
        newest = reached[-1] if reached else 0
        wait_for(lambda newest=newest: any(step > newest for step in steps_saved(order["scratch"])))
        time.sleep(draw.random() / 5)
        for rank in draw.sample(ranks, 2):
            rank.kill()
        for rank in ranks:
            rank.ended()
        assert are_whole(order["scratch"])
        manifest, notes = newest_whole(order["scratch"], ALONE)
        assert notes == []
        reached.append(manifest["step"])
    assert reached == sorted(set(reached))
    runs.run([order], world_size=2)
    assert runs.weights("killed") == runs.weights("undisturbed")
    assert runs.losses("killed") == runs.losses("undisturbed")


@pytest.mark.slow
def test_without_a_part_there_is_no_manifest_and_training_goes_on(runs, make_job):
    """The second rank's files cannot be written for a time, those of the first can."""
    order = runs.order(make_job(num_steps=300), "one-part", checkpoint_every_steps=100, zero_stage=1)
    ranks = runs.start([order], world_size=2)
    wait_for(lambda: steps_begun(order["scratch"]))
    resource.prlimit(ranks[1].pid, resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    folder = runs.root / "one-part/scratch/step-00000200"
    wait_for((folder / "rank-00000-of-00002.json").exists)
    time.sleep(0.3)
    assert not (folder / "rank-00001-of-00002.json").exists()
    assert not (folder / MANIFEST).exists()
    resource.prlimit(ranks[1].pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert [rank.ended(seconds=300) for rank in ranks] == [0, 0], [rank.said for rank in ranks]
    assert steps_saved(order["scratch"])[-1] == 300
    assert are_whole(order["scratch"])


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)
