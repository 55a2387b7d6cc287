"""A rank that hangs: told from those that wait for it, named, ended, and started again."""

import json
import os
import signal
import threading
import time

import pytest
import torch
import torch.distributed as dist

from pipeline.dag.folder import open_folder
from pipeline.dag.following import Following
from pipeline.errors import StageFailedError
from pipeline.training.pulse import Phase, Pulse, Sight, collective_name, num_collectives
from pipeline.training.watchdog import Seen, find_culprit
from tests.pipeline.training.conftest import KILLED, KILLED_STEPS

slow = pytest.mark.slow


def seen(num_collectives, *, silent=100.0, unchanged=1.0, phase=Phase.backward, is_slow=False, longest=20.0):
    return Seen(Sight(phase, 7, silent, is_slow, longest, num_collectives), unchanged)


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ({0: seen(12), 1: seen(11, phase=Phase.data), 2: seen(12)}, (1, False)),
        ({0: seen(12), 1: seen(11, phase=Phase.data, silent=0.0)}, None),
        ({0: seen(12), 1: seen(11, phase=Phase.waiting, silent=0.0)}, None),
        ({0: seen(11, phase=Phase.checkpoint, is_slow=True), 1: seen(12)}, None),
        ({0: seen(11, phase=Phase.checkpoint, is_slow=True, silent=950), 1: seen(12)}, (0, False)),
        ({0: seen(11), 1: seen(12), 2: seen(12, unchanged=50.0)}, (2, True)),
        ({0: seen(12), 1: seen(11, unchanged=50.0, phase=Phase.checkpoint, is_slow=True)}, None),
        ({0: seen(12), 1: seen(11, longest=80.0)}, None),
        ({0: seen(0, phase=Phase.data)}, (0, False)),
        ({0: seen(12), 1: seen(12)}, (0, False)),
    ],
    ids=[
        "behind",
        "at work",
        "waits",
        "slow",
        "too slow",
        "frozen",
        "busy disk",
        "slow device",
        "alone",
        "all wait",
    ],
)
def test_the_culprit_is_who_keeps_the_others_waiting(ranks, expected):
    found = find_culprit(ranks, hang_seconds=90)
    assert (found and (found.rank, found.is_frozen)) == expected


def test_collectives_are_counted_and_named(process_group):
    before = num_collectives()
    dist.all_reduce(torch.ones(3))
    dist.barrier()
    assert num_collectives() == before + 2
    assert "all_reduce" in collective_name(before + 1)
    assert "barrier" in collective_name(before + 2)


def test_a_wait_for_tokens_is_no_silence(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims/builder.json").write_text("{}")
    folders = [open_folder(str(tmp_path / name)) for name in ("output", "target", "claims")]
    following = Following("tokens", ("tokens-0.arrow",), *folders)
    pulses = []

    def train():
        pulses.append(Pulse())
        pulses[0].enter(Phase.data, 3)
        following.wait(0)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        time.sleep(0.5)
        sight = pulses[0].look()
        assert (sight.phase, sight.step, sight.silent_seconds) == (Phase.waiting, 3, 0.0)
    finally:
        (tmp_path / "target").mkdir()
        (tmp_path / "target/tokens-0.arrow").write_text("")
        thread.join()
    assert pulses[0].look().silent_seconds > 0.3


SETTINGS = KILLED | {"hang_seconds": 3.0}


def wait_for_beats(launcher, name):
    """Until the watchdogs of both ranks have seen a step."""
    deadline = time.monotonic() + 60
    while len(found := list((launcher.root / name).glob("scratch/health/rank-*.json"))) < 2 or not all(
        json.loads(path.read_text())["sight"]["step"] for path in found
    ):
        assert time.monotonic() < deadline, "no beats came"
        time.sleep(0.02)


@pytest.mark.soak
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_rank_that_stands_still_is_named_ended_and_started_again(launcher, whole, stopped):
    job, weights = whole
    thread, outcome = launcher.start(job, "stopped", **SETTINGS)
    launcher.wait_for_checkpoint("stopped")
    wait_for_beats(launcher, "stopped")
    processes = launcher.rank_processes()
    assert len(processes) == 2
    os.kill(processes[stopped].pid, signal.SIGSTOP)
    thread.join(timeout=120)
    assert not thread.is_alive(), "the rank that hangs was not found"
    assert outcome["result"].counters["steps"] == KILLED_STEPS
    notes = launcher.notes()
    hangs = [note for note in notes if "hangs: it stands still as a whole" in note]
    assert len(hangs) == 1
    assert "its last collective is number " in hangs[0]
    assert "loop.py" in hangs[0]
    assert f"rank {1 - int(hangs[0][5])} waits for it in " in hangs[0]
    assert any("resumed from the checkpoint of step" in note for note in notes)
    assert launcher.weights("stopped") == weights


def hanging_channel(channel, flag, *, from_step):
    """A channel that never returns from telling the metrics of a step: once, or always where `flag` is None."""

    class Hanging:
        """Local, so that it is pickled by value."""

        def send(self, event):
            if event["kind"] == "metrics" and event["step"] >= from_step and not (flag and flag.exists()):
                if flag:
                    flag.touch()
                time.sleep(1e6)
            channel.send(event)

    return Hanging()


@slow
def test_a_rank_that_hangs_in_a_call_tells_its_stacks_and_comes_back(launcher, whole, tmp_path):
    job, weights = whole
    launcher.channel = hanging_channel(launcher.channel, tmp_path / "flag", from_step=60)
    launcher.run(job, "hung", **SETTINGS)
    told = [note for note in launcher.notes() if "hangs: it gives no sign of life for " in note]
    hangs = [note for note in told if "in record of step" in note]  # a busy machine may be slow to set up
    assert len(hangs) == 1
    assert hangs[0].startswith("rank 0 hangs")
    assert "in send" in hangs[0]
    assert "thread watchdog" in hangs[0]
    assert launcher.weights("hung") == weights


@pytest.mark.soak
def test_a_rank_that_always_hangs_ends_the_run_in_words(launcher, make_job):
    launcher.channel = hanging_channel(launcher.channel, None, from_step=30)
    with pytest.raises(StageFailedError) as raised:
        launcher.run(make_job(num_steps=KILLED_STEPS), "always", **(SETTINGS | {"max_failures": 0}))
    assert "rank 0 hangs" in raised.value.what
    assert "its last collective is number " in raised.value.where
    assert "goes on from the last checkpoint" in raised.value.do


@pytest.mark.soak
def test_a_single_rank_that_stands_still_is_lost_and_named_too(launcher, make_job):
    settings = SETTINGS | {"num_workers": 1, "max_failures": 0}
    thread, outcome = launcher.start(make_job(num_steps=50_000), "alone", **settings)
    launcher.wait_for_checkpoint("alone")
    (process,) = launcher.rank_processes()
    os.kill(process.pid, signal.SIGSTOP)
    thread.join(timeout=120)
    assert not thread.is_alive(), "the rank that hangs was not found"
    assert outcome["error"].what.startswith("rank 0 hangs: ")
