"""A training that is killed again and again, and goes on with the same or with another number of ranks."""

import itertools
import random
import shutil
import signal
import time

import pytest

pytestmark = pytest.mark.slow

NUM_STEPS = 200
RESOURCES = {"checkpoint_every_steps": 5, "zero_stage": 2, "micro_batch_size": 2}


@pytest.mark.soak
def test_with_the_same_ranks_the_weights_are_the_same(runs, make_job):
    job = make_job(num_steps=NUM_STEPS, eval_every_steps=50)
    undisturbed, seconds = undisturbed_run(runs, job, "fixed")
    for name in killed_runs(runs, job, 50, sizes=[2], longest=seconds):
        assert runs.weights(name) == runs.weights(undisturbed)
        assert runs.losses(name) == runs.losses(undisturbed)


@pytest.mark.soak
def test_with_fewer_and_more_ranks_the_losses_are_the_same(runs, make_job):
    job = make_job(num_steps=NUM_STEPS)
    undisturbed, seconds = undisturbed_run(runs, job, "moving")
    for name in killed_runs(runs, job, 50, sizes=[2, 1], longest=seconds):
        assert runs.losses(name) == pytest.approx(runs.losses(undisturbed), abs=1e-3)
        assert len(runs.losses(name)) == NUM_STEPS


def undisturbed_run(runs, job, name):
    """Its name, and the seconds it takes."""
    began = time.monotonic()
    runs.run([runs.order(job, name, **RESOURCES)], world_size=2)
    return name, time.monotonic() - began


def killed_runs(runs, job, num_kills, *, sizes, longest):
    """Names of runs that were killed, so many times in all, each complete when its name comes.

    Each start is on the next of `sizes` ranks, and is killed at any moment of what an undisturbed one takes.
    """
    draw, ranks_of_start = random.Random(num_kills), itertools.cycle(sizes)
    number = 0
    while num_kills:
        number += 1
        name = f"killed-{sizes}-{num_kills}-{number}"
        order = runs.order(job, name, **RESOURCES)
        while num_kills and not start_and_kill(runs, order, next(ranks_of_start), draw, longest):
            num_kills -= 1
        if not num_kills:
            runs.run([order], world_size=next(ranks_of_start))
        yield name
        shutil.rmtree(runs.root / name)


def start_and_kill(runs, order, world_size, draw, longest):
    """Whether it was complete before the kill was due."""
    ranks = runs.start([order], world_size=world_size)
    due = time.monotonic() + draw.uniform(0, longest)
    while time.monotonic() < due and any(rank.poll() is None for rank in ranks):
        time.sleep(0.005)
    if all(rank.poll() == 0 for rank in ranks):
        return True
    first = draw.choice(ranks)
    for rank in [first, *ranks]:  # the others a moment later, as Ray does
        rank.kill()
        time.sleep(0.05)
    ends = [rank.ended(seconds=60) for rank in ranks]
    assert all(end in (-signal.SIGKILL, 0, 1) for end in ends), [rank.said for rank in ranks]
    return False
