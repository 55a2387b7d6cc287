"""Training on tokens that are still being written: the bytes are those of a training that waited."""

import json
import os
import shutil
import signal
import threading
import time

import pytest

from data.mixture import MixtureRules
from data.shards import TokenFormat, TokenWriter, read_tokens
from pipeline.dag.folder import open_folder
from pipeline.dag.following import Following
from pipeline.stages.pretrain import Pretrain
from pipeline.training.config import Packing
from pipeline.training.sources import can_be_followed

NUM_SHARDS = 5


@pytest.fixture
def shards(corpus, tmp_path):
    """The rows of the corpus's training tokens in several shards."""
    rows = list(read_tokens(corpus["train"].local() / "tokens-00000.arrow"))
    (tmp_path / "shards").mkdir()
    token_format = TokenFormat("f" * 16, 96, 0)
    for number in range(NUM_SHARDS):
        path = tmp_path / f"shards/tokens-{number:05d}.arrow"
        with TokenWriter(path, token_format=token_format) as writer:
            for row in rows[number::NUM_SHARDS]:
                writer.write(row)
    return tmp_path / "shards"


class Writer:
    """Another node, which brings a shard whenever it is told to, and commits after the last."""

    def __init__(self, shards, root) -> None:
        self.shards, self.root, self.brought = sorted(shards.iterdir()), root, 0
        for name in ("output", "target", "claims"):
            (root / name).mkdir(parents=True)
        (root / "claims/builder.json").write_text("{}")
        folders = [open_folder(str(root / name)) for name in ("output", "target", "claims")]
        self.following = Following("tokens/train", tuple(each.name for each in self.shards), *folders)

    def bring(self) -> None:
        shutil.copy(self.shards[self.brought], self.root / "output/part")
        (self.root / "output/part").rename(self.root / "output" / self.shards[self.brought].name)
        self.brought += 1
        if self.brought == len(self.shards):
            for path in sorted((self.root / "output").iterdir()):
                path.rename(self.root / "target" / path.name)
            (self.root / "claims/builder.json").unlink()

    def bring_every(self, seconds: float) -> None:
        while self.brought < len(self.shards):
            time.sleep(seconds)
            self.bring()


def test_the_weights_are_those_of_one_that_waited(here, make_job, shards, tmp_path):
    changes = {"shuffle_window": 40, "num_steps": 60}
    here.run(make_job({"train_tokens": {"train": open_folder(str(shards))}}, **changes), "waited")
    writer = Writer(shards, tmp_path / "growing")
    others = threading.Thread(target=writer.bring_every, args=(0.5,))
    others.start()
    here.run(make_job({"train_tokens": {"train": writer.following}}, **changes), "followed")
    others.join()
    assert here.weights("followed") == here.weights("waited")
    assert here.losses("followed") == here.losses("waited")


def test_a_mixture_by_weight_is_followed_and_counted_alike(here, make_job, shards, corpus, tmp_path):
    mixture = MixtureRules(weights={"ours": 3, "theirs": 1})
    changes = {"shuffle_window": 30, "num_steps": 20}

    def job(ours):
        sources = {"ours": ours, "theirs": corpus["validation"]}
        return make_job({"train_tokens": sources, "mixture": mixture}, **changes)

    waited = here.run(job(open_folder(str(shards))), "waited")
    writer = Writer(shards, tmp_path / "growing")
    others = threading.Thread(target=writer.bring_every, args=(0.3,))
    others.start()
    followed = here.run(job(writer.following), "followed")
    others.join()
    assert here.weights("followed") == here.weights("waited")
    assert followed.counters == waited.counters
    epochs = ("epochs/ours", "epochs/theirs")
    assert [followed.metrics[name] for name in epochs] == [waited.metrics[name] for name in epochs]


def test_held_out_tokens_are_waited_for_as_a_whole(here, make_job, shards, tmp_path):
    waited = here.run(make_job({"validation_tokens": open_folder(str(shards))}), "waited")
    writer = Writer(shards, tmp_path / "growing")
    others = threading.Thread(target=writer.bring_every, args=(0.1,))
    others.start()
    followed = here.run(make_job({"validation_tokens": writer.following}), "followed")
    others.join()
    assert followed.metrics["eval/loss"] == waited.metrics["eval/loss"]


@pytest.mark.soak
def test_a_rank_that_is_killed_while_it_follows_comes_back_to_the_same_bytes(
    launcher, make_job, shards, tmp_path
):
    resources = {"num_workers": 2, "checkpoint_every_steps": 5}
    changes = {"shuffle_window": 40, "num_steps": 60}
    launcher.run(
        make_job({"train_tokens": {"train": open_folder(str(shards))}}, **changes), "waited", **resources
    )
    writer = Writer(shards, tmp_path / "growing")
    writer.bring()
    writer.bring()
    thread, outcome = launcher.start(
        make_job({"train_tokens": {"train": writer.following}}, **changes), "followed", **resources
    )
    launcher.wait_for_checkpoint("followed")
    os.kill(launcher.rank_processes()[0].pid, signal.SIGKILL)
    writer.bring_every(0.2)
    thread.join(timeout=300)
    assert outcome["result"].counters["steps"] == 60
    assert launcher.weights("followed") == launcher.weights("waited")
    lines = (launcher.root / "followed/output/logs/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if "train/loss" in line]
    assert steps == list(range(1, 61))


@pytest.mark.parametrize(
    ("changes", "num_sources", "expected"),
    [
        ({}, 1, True),
        ({"shuffle_window": 0}, 1, False),
        ({"num_epochs": 1.0}, 1, False),
        ({"num_tokens": 1 << 20}, 1, True),
        ({"packing": Packing.best_fit}, 1, False),
        ({"packing": Packing.pad}, 1, False),
        ({}, 2, False),
        ({"mixture": MixtureRules(temperature=2.0)}, 2, False),
        ({"mixture": MixtureRules(weights={"a": 1, "b": 2})}, 2, True),
        ({"mixture": MixtureRules(weights={"a": 1, "b": 2}, max_epochs={"a": 2})}, 2, False),
    ],
)
def test_what_can_be_followed(changes, num_sources, expected):
    stage = Pretrain(**({"shuffle_window": 8} | changes))
    found = can_be_followed(stage, stage.packing, stage.mixture, num_sources=num_sources)
    assert found == expected
