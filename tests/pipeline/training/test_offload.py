"""Offload to a folder on a disk: the bytes of a training without it, whatever else is asked for, and nothing left."""

import contextlib
import resource
import time
from pathlib import Path

import pytest

from model.config import LlamaConfig
from pipeline.config import compose_recipe
from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError, StageFailedError
from pipeline.training.config import OptimizerKind, Precision, TrainingConfig, zero_stage_of
from pipeline.training.diskmemory import DiskMemory
from pipeline.training.fit import fitted, memory_with
from pipeline.training.memory import GIB

BOTH = {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True}
IN_PARTS = {"micro_batch_size": 2, "checkpoint_every_steps": 6}
"Gradients are summed over micro batches, and a checkpoint is taken halfway."
MODEL = LlamaConfig(vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_layers=16, num_heads=16)
TRAINING = TrainingConfig(seq_len=2048, global_batch_tokens=2048 * 128)


@pytest.fixture
def disk(tmp_path) -> str:
    return str(tmp_path / "fast/disk")


@contextlib.contextmanager
def largest_file(num_bytes: int):
    """No file of this process grows larger, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def file_at(address: int) -> str:
    """What the operating system has mapped there."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, name = line.split(maxsplit=5)
        low, high = (int(end, 16) for end in span.split("-"))
        if low <= address < high:
            return name
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_weights_and_losses_are_those_of_zero_3_without_it(runs, make_job, disk, world_size):
    orders = [
        runs.order(
            make_job(precision=precision), f"{name}-{precision.value}-{world_size}", **IN_PARTS, **settings
        )
        for precision in (Precision.fp32, Precision.bf16)
        for name, settings in (("in-memory", {"zero_stage": 3}), ("on-disk", BOTH | {"offload_folder": disk}))
    ]
    runs.run(orders, world_size=world_size)
    for precision in ("fp32", "bf16"):
        within, away = (f"{name}-{precision}-{world_size}" for name in ("in-memory", "on-disk"))
        assert runs.losses(away) == runs.losses(within)
        assert runs.weights(away) == runs.weights(within)
    assert list(Path(disk).iterdir()) == []


@pytest.mark.slow
def test_ranks_that_are_killed_leave_nothing_there_and_the_run_goes_on_to_the_same_bytes(
    runs, make_job, disk
):
    job = make_job(num_steps=60)
    settings = BOTH | {"offload_folder": disk, "checkpoint_every_steps": 5}
    runs.run([runs.order(job, "never-killed", zero_stage=3)], world_size=2)
    order = runs.order(job, "killed", **settings)
    ranks = runs.start([order], world_size=2)
    deadline = time.monotonic() + 200
    while not list((runs.root / "killed").glob("scratch/step-*/manifest.json")):
        assert time.monotonic() < deadline, "no checkpoint came"
        assert all(rank.poll() is None for rank in ranks), "the ranks have ended before they were killed"
        time.sleep(0.02)
    for rank in ranks:
        rank.kill()
        rank.ended()
    assert list(Path(disk).iterdir()) == []
    runs.run([order], world_size=2)
    assert runs.weights("killed") == runs.weights("never-killed")


@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_every_optimizer_and_a_mean_of_the_weights_work_there(here, make_job, disk, kind):
    job = make_job(optimizer=kind, ema_decay=0.7, learning_rate=1e-3, eval_every_steps=4)
    here.run(job, "in-memory", zero_stage=3, norms_every_steps=3)
    found = here.run(job, "on-disk", **BOTH, offload_folder=disk, norms_every_steps=3).metrics
    assert here.losses("on-disk") == here.losses("in-memory")
    assert here.weights("on-disk") == here.weights("in-memory")
    assert found["update_norm/embedding"] > 0


@pytest.mark.parametrize(("before", "after"), [("memory", "disk"), ("disk", "memory"), ("disk", "disk")])
def test_a_checkpoint_goes_on_with_it_and_without_it(here, make_job, disk, before, after):
    settings = {"memory": {"zero_stage": 3}, "disk": BOTH | {"offload_folder": disk}}
    job = make_job(ema_decay=0.7)
    here.run(job, "whole", **IN_PARTS, **settings[before])
    scratch, _ = here.folders("moved")
    halfway = here.root / "whole/scratch/step-00000006"
    scratch.upload(halfway, halfway.name)
    here.run(job, "moved", **IN_PARTS, **settings[after])
    assert "resumed from the checkpoint of step 6" in here.notes()
    assert here.weights("moved") == here.weights("whole")


def test_weights_states_and_their_copies_lie_in_the_folder(here, make_job, disk):
    from pipeline.training.fragments import fragments_of
    from pipeline.training.hostcopy import HostCopy
    from pipeline.training.ranks import current_ranks
    from pipeline.training.worker import Order, build_engine

    resources = Resources(**BOTH, offload_folder=disk)
    order = Order(make_job(ema_decay=0.7), resources, here.channel, *here.folders("run"), time.time())
    engine = build_engine(order, 96, current_ranks())
    copy = HostCopy()
    for fragment in (*fragments_of(engine), *copy.take(engine)):
        assert set(fragment.tensors) == {"weight", "exp_avg", "exp_avg_sq", "ema"}
        for tensor in fragment.tensors.values():
            assert file_at(tensor.data_ptr()).startswith(disk)
    for parameter in engine.model.parameters():
        assert file_at(parameter.ds_tensor.data_ptr()).startswith(disk)


def test_a_disk_without_room_ends_the_run_before_its_first_step_in_words(here, make_job, disk):
    with largest_file(1 << 14), pytest.raises(StageFailedError, match="has no room") as raised:
        here.run(make_job(), "run", **BOTH, offload_folder=disk)
    assert all(text for _, text in raised.value.parts())
    assert raised.value.where == "resources.offload_folder"
    assert list(Path(disk).iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_refused(here, make_job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to") as raised:
        here.run(make_job(), "run", **BOTH, offload_folder=f"{tmp_path}/file/folder")
    assert all(text for _, text in raised.value.parts())


def test_what_lies_there_keeps_its_values_and_its_shape(disk):
    import torch

    memory = DiskMemory(disk)
    values = torch.randn(7, 3, dtype=torch.bfloat16)
    moved = memory.moved(values)
    assert torch.equal(moved, values)
    assert moved.data_ptr() != values.data_ptr()
    assert torch.equal(memory.zeros_like(values), torch.zeros_like(values))


@pytest.mark.parametrize(
    ("settings", "where"),
    [(["zero_stage=2"], "zero_stage"), (["offload_optimizer=false"], "offload_folder")],
)
def test_a_folder_to_which_nothing_is_offloaded_is_refused(settings, where):
    given = [f"resources.base.{setting}" for setting in ("offload_folder=/fast", *settings)]
    with pytest.raises(ConfigError) as raised:
        compose_recipe(given)
    assert raised.value.where == f"resources.base.{where}"
    assert all(text for _, text in raised.value.parts())


def test_what_is_offloaded_to_it_is_counted_on_no_device_and_on_no_host():
    resources = Resources(num_workers=8, zero_stage=3, offload_optimizer=True, offload_parameters=True)
    for num_gpus in (0, 1):
        resources.num_gpus = num_gpus
        resources.offload_folder = None
        without = memory_with(MODEL, TRAINING, resources)
        resources.offload_folder = "/fast"
        found = memory_with(MODEL, TRAINING, resources)
        assert found.total == without.total
        assert found.on_disk > found.optimizer + found.copies
        before, after = without.on_device + without.on_host, found.on_device + found.on_host
        assert before - after == found.on_disk


def test_the_folder_is_taken_only_where_nothing_else_fits():
    def fit(gib, **settings):
        resources = Resources(num_workers=8, num_gpus=0, **settings)
        return fitted(MODEL, TRAINING, resources, device_bytes=gib * GIB)

    assert fit(80, offload_folder="/fast").memory.on_disk == 0
    with pytest.raises(ConfigError, match="does not fit"):
        fit(6)
    found = fit(6, offload_folder="/fast")
    assert found.memory.on_disk > 0
    assert "/fast" in found.words()
    assert found.resources.zero_stage == 3


def test_what_is_offloaded_to_a_folder_is_offloaded_at_zero_3():
    open_stage = Resources(offload_optimizer=True, offload_folder="/fast")
    assert zero_stage_of(TRAINING, open_stage, world_size=1) == 3
