"""Word from outside: a checkpoint at the end of the step, then the ranks leave, or stay where there is no room."""

import time

import pytest

from pipeline.dag.resources import Resources
from pipeline.training.checkpoint import steps_saved
from pipeline.training.departure import Notice
from pipeline.training.failure import LeftError
from pipeline.training.spikes import SpikePolicy
from pipeline.training.worker import Order, work

CHECKPOINT_EVERY_STEPS = 100


class Told:
    """A notice that comes during the third step of a run, and stays."""

    def __init__(self, notice):
        self.notice, self.num_looks = notice, 0

    def __call__(self):
        self.num_looks += 1
        return self.notice if self.num_looks >= 3 else None


@pytest.fixture
def run(here):
    def run(job, name, notice):
        scratch, output = here.folders(name)
        resources = Resources(checkpoint_every_steps=CHECKPOINT_EVERY_STEPS)
        return work(Order(job, resources, here.channel, scratch, output, time.time(), Told(notice)))

    return run


def test_ranks_leave_after_a_checkpoint_and_go_on_where_they_were(here, make_job, run):
    here.run(make_job(), "undisturbed")
    with pytest.raises(LeftError):
        run(make_job(), "left", Notice("there is room for 2 ranks", can_leave=True))
    assert steps_saved(here.folders("left")[0]) == [3]
    assert "there is room for 2 ranks: after a checkpoint at step 3 training starts again" in here.notes()
    told = [event["step"] for event in here.channel.events if event["kind"] == "metrics"]
    assert told[-3:] == [1, 2, 3], "what the checkpoint holds is not told again"
    here.run(make_job(), "left", checkpoint_every_steps=CHECKPOINT_EVERY_STEPS)
    assert "resumed from the checkpoint of step 3" in here.notes()
    assert here.weights("left") == here.weights("undisturbed")
    assert here.losses("left") == here.losses("undisturbed")


def test_without_room_elsewhere_they_stay_and_heed_it_once(here, make_job, run):
    run(make_job(), "stayed", Notice("node 1 is being drained", can_leave=False))
    assert steps_saved(here.folders("stayed")[0]) == [3, 12]
    assert here.notes().count("goes on as long as it can") == 1


def test_where_a_spike_would_go_back_to_stays_the_same(here, make_job, run):
    rewinding = make_job(spike_policy=SpikePolicy.rewind, spike_rewind_steps=2, spike_window=4)
    with pytest.raises(LeftError):
        run(rewinding, "left", Notice("node 1 is being drained", can_leave=True))
    assert steps_saved(here.folders("left")[0]) == [0, 2]


def test_the_last_step_is_left_to_end(here, make_job, run):
    run(make_job(num_steps=3), "done", Notice("node 1 is being drained", can_leave=True))
    assert (here.root / "done/output/model.safetensors").exists()
