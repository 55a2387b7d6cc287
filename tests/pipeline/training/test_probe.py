"""The first steps of a training, or of a probe: measured, told, remembered, and nothing else is left of a probe."""

import dataclasses
import time

import torch

from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources
from pipeline.training.pace import Paces, conditions, cpu_name

RANK = Resources(num_workers=1, cpus_per_worker=2, num_gpus=0)


def order(here, job, name, measured):
    from pipeline.training.worker import Order

    scratch, output = here.folders(name)
    return Order(job, RANK, here.channel, scratch, output, time.time(), measured=measured)


class Said:
    """A recorder's channel that keeps the notes."""

    def __init__(self):
        self.notes = []

    def send(self, event):
        self.notes.append(event["text"])


def outset_after(*seconds, first_step=0, last_step=1000):
    """What is told of steps that took so long, and after how many."""
    from model.config import LlamaConfig
    from pipeline.training.config import TrainingConfig
    from pipeline.training.high_water import HighWater
    from pipeline.training.outset import FirstSteps, Outset
    from pipeline.training.ranks import Ranks
    from pipeline.training.recorder import Recorder, StepRecord
    from pipeline.training.throughput import Throughput

    training, said, ranks = TrainingConfig(), Said(), Ranks(0, 1)
    recorder = Recorder(said, ranks, Throughput(training, last_step, 1, 1.0), 1)
    first = FirstSteps(
        LlamaConfig(vocab_size=100), training, RANK, ranks, HighWater(torch.device("cpu")), 1e12, None
    )
    outset = Outset(first, recorder, last_step=last_step, first_step=first_step)
    for number, each in enumerate(seconds, first_step + 1):
        outset.offer(StepRecord(number, 1.0, 0.1, 1.0, each))
        if said.notes:
            return said.notes, number - first_step
    return said.notes, len(seconds)


def test_two_steps_after_the_first_tell_how_long_all_take():
    (note,), after = outset_after(60.0, 8.0, 7.96, 1.0, 1.0)
    assert after == 3, "the first step only warms up"
    assert note.startswith("predicted: 2 h 13 min for 1,000 steps of 7.98 s, ")
    (note,), after = outset_after(60.0, 8.0, 8.0, first_step=900)
    assert note.startswith("predicted: 13 min 20 s for 100 steps of 8 s, ")


def test_short_steps_are_measured_for_a_second():
    (note,), after = outset_after(3.0, *[0.1] * 30)
    assert after == 1 + 10
    assert "steps of 100 ms" in note
    assert outset_after(3.0, *[0.001] * 30)[1] == 1 + 20, "and no longer than twenty of them"


def test_of_a_run_that_is_over_nothing_is_foretold():
    assert outset_after(1.0, 2.0, 2.0, last_step=3) == ([], 3)
    assert outset_after(1.0, 2.0, last_step=2) == ([], 2)


def test_a_training_remembers_what_its_first_steps_took(here, make_job, tmp_path):
    from pipeline.training.worker import work

    job, measured = make_job(num_steps=24), open_folder(str(tmp_path / "measured"))
    work(order(here, job, "told", measured))
    assert any(line.startswith("predicted: ") for line in here.notes().splitlines())
    model = job.model.with_vocab_size(96)
    pace = Paces(measured).recall(conditions(model, job.training, RANK), device=cpu_name())
    assert pace.num_steps >= 2
    assert pace.seconds_per_step > 0
    assert pace.bytes_per_rank >= 0  # this process may have held more before, and then it does not grow


def test_a_probe_measures_what_a_training_would_and_leaves_nothing_else(here, make_job, tmp_path):
    from pipeline.training.probe import probe

    measured = open_folder(str(tmp_path / "measured"))
    job = make_job(mask_documents=True)
    job = dataclasses.replace(
        job, model=job.model.with_vocab_size(96), train_tokens={}, validation_tokens=None
    )
    result = probe(order(here, job, "probe", measured))
    pace = Paces(measured).recall(conditions(job.model, job.training, RANK), device=cpu_name())
    assert result.metrics["seconds_per_step"] == pace.seconds_per_step
    assert not (tmp_path / "probe/output").exists()
    assert not [
        entry for entry in open_folder(str(tmp_path / "probe/scratch")).files() if "step" in entry.name
    ]


def test_random_tokens_have_the_shape_of_the_training(tmp_path, make_job):
    from pipeline.training.probe import random_batches

    job = make_job(mask_documents=True)
    batches = random_batches(tmp_path, job.training, job.model.with_vocab_size(50))
    batch = batches.batch(3, rank=1, world_size=2, micro_step=0, micro_batch_size=4)
    assert batch["input_ids"].shape == batch["labels"].shape == batch["document_ids"].shape == (4, 32)
    assert batch["input_ids"].max() < 50
