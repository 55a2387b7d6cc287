"""Ray Train around the one loop: workers placed, connected, watched, and started again when one is lost."""

import importlib
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any

import ray

from model.config import ModelConfig
from model.weights import load_config
from pipeline.dag.folder import Folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Channel
from pipeline.errors import ConfigError, StageFailedError
from pipeline.training.allocation import ALLOCATION
from pipeline.training.beginning import check_job
from pipeline.training.config import TrainingConfig
from pipeline.training.distillation import teacher_bytes
from pipeline.training.failure import as_rank_error, first_cause
from pipeline.training.fit import fitted
from pipeline.training.job import Places, TrainingJob, TrainingResult
from pipeline.training.memory import GIB
from pipeline.training.pace import Paces, measured_bytes
from pipeline.training.placement import settled, world_sizes
from pipeline.training.watchdog import HANG_SECONDS, reported_hang

TRAIN, PROBE = "pipeline.training.worker:work", "pipeline.training.probe:probe"
"""What ranks can be asked to do; imported there, not in the driver."""
MAX_FAILURES = 3
DRIVER_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # the default of 2 s is what a lost rank, and the end, wait for
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # of a notice of 30 s the default loses five
    "RAY_TRAIN_METRICS_ENABLED": "0",  # for Ray's dashboard; our own metrics are on the channel
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
WATCHER_SETTING = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
STANDSTILL_SETTING = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
STANDSTILL_GRACE_SECONDS = 20
"After which Ray ends a rank that stands still: a single one, that no other watches."


def launch(
    job: TrainingJob,
    *,
    resources: Resources,
    channel: Channel,
    places: Places,
    vocab_size: int,
    task: str = TRAIN,
    stop: Event | None = None,
) -> TrainingResult:
    """Do a task of `job` on the connected Ray cluster, from any thread.

    After TRAIN the artifact is in its place; PROBE writes none. Once `stop` is set, the ranks are ended.

    Raises:
        ConfigError: the global batch cannot be shared out, the cluster has not got the resources, or the parts of the
            job do not go together.
        StageFailedError: a rank failed (its number, its first cause, and what to do), or the task was given up.
    """
    resources = settled(
        resources, ray.cluster_resources(), sequences_per_step=job.training.sequences_per_step
    )
    check_job(job, vocab_size=vocab_size)
    settings = _settings(job, resources, channel, vocab_size, places.measured)
    prepare_driver()
    if resources.min_workers:
        os.environ[WATCHER_SETTING] = "1"  # more nodes may come
    os.environ[STANDSTILL_SETTING] = str((resources.hang_seconds or HANG_SECONDS) + STANDSTILL_GRACE_SECONDS)
    from ray.train import TrainingFailedError

    with tempfile.TemporaryDirectory(prefix="headrace-ray-train-") as storage:
        order = {"job": job, "channel": channel, "ordered_at": time.time(), **vars(places)}
        trainer = _trainer(order, resources, settings, storage, task, stop or Event())
        try:
            return _result(trainer.fit())
        except TrainingFailedError as error:
            raise _explained(error, places.scratch) from error


def _settings(
    job: TrainingJob, resources: Resources, channel: Channel, vocab_size: int, measured: Folder | None
) -> dict[int, Resources]:
    """By world size: what is open is chosen so that it fits into the memory that ranks will find.

    Said where that took something. An elastic training leaves out the world sizes in which nothing fits.
    """
    sizes = world_sizes(job.training, resources)
    model = job.model.with_vocab_size(vocab_size)
    room, device = _room_of_rank(resources)
    if job.teacher is not None:
        room -= teacher_bytes(load_config(job.teacher.local()), job.training)
    known = partial(_measured, measured, model, job.training)
    found = {}
    for size in sizes:
        ranks = replace(resources, num_workers=size)
        try:
            fit = fitted(model, job.training, ranks, device_bytes=room, device=device, measured=known)
        except ConfigError as error:
            if size == sizes[0]:
                raise
            channel.send({"kind": "note", "text": f"{size} ranks would be too few: {error.what}"})
            continue
        if fit.reason and size == sizes[0]:
            channel.send({"kind": "note", "text": fit.words()})
        found[size] = replace(fit.resources, num_workers=resources.num_workers)
    return found


def _room_of_rank(resources: Resources) -> tuple[float, str]:
    """Bytes that each rank has to itself, and of what."""
    if resources.num_gpus:
        found = resources.gpu_memory_gib
        size = found * GIB if found else ray.get(_gpu_bytes.options(num_gpus=resources.num_gpus).remote())
        return size * min(1.0, resources.num_gpus), "GPU"
    nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    ranks_of_node = -(-(resources.num_workers or 1) // len(nodes))
    return min(each.get("memory", 0) for each in nodes) / ranks_of_node, "rank's share of a node"


def _measured(
    folder: Folder | None, model: ModelConfig, training: TrainingConfig, resources: Resources
) -> float | None:
    """Bytes that a rank has held before in these resources, on whatever device it was."""
    return measured_bytes(Paces(folder), model, training, resources, device=None) if folder else None


@ray.remote(num_cpus=0)
def _gpu_bytes() -> int:
    """In a worker that has a GPU: its memory."""
    import torch

    return int(torch.cuda.mem_get_info()[1])


def prepare_driver() -> None:
    """Ray Train's settings and imports: seconds that a driver may spend while nodes before the training run."""
    for name, value in DRIVER_SETTINGS.items():
        os.environ.setdefault(name, value)
    if len(ray.nodes()) == 1:
        os.environ.setdefault(WATCHER_SETTING, "0")  # one machine is drained by nobody
    importlib.import_module("pipeline.training.supervision")


def _trainer(
    order: dict[str, Any],
    resources: Resources,
    settings: dict[int, Resources],
    storage: str,
    task: str,
    stop: Event,
) -> Any:
    """`resources` with every number filled in; `settings` by world size."""
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    from pipeline.training.elastic import GROW_SECONDS, AsManyAsThereAre, per_worker
    from pipeline.training.supervision import Trainer

    failures = MAX_FAILURES if resources.max_failures is None else resources.max_failures
    is_elastic = resources.min_workers is not None
    scaling = ScalingConfig(
        num_workers=(min(settings), max(settings)) if is_elastic else max(settings),
        use_gpu=bool(resources.num_gpus),
        resources_per_worker=per_worker(resources),
        elastic_resize_monitor_interval_s=GROW_SECONDS,
    )
    elastic = (
        AsManyAsThereAre(scaling, world_sizes=list(settings), channel=order["channel"])
        if is_elastic
        else None
    )
    listens = os.environ.get(WATCHER_SETTING) != "0"
    return Trainer(
        run_rank,
        scaling=elastic,
        scratch=order["scratch"] if is_elastic else None,
        stop=stop,
        train_loop_config={"task": task, "order": order, "settings": settings, "listens": listens},
        torch_config=TorchConfig(backend="nccl" if resources.num_gpus else "gloo"),
        scaling_config=scaling,
        run_config=RunConfig(
            name="train",
            storage_path=storage,  # our checkpoints are in `scratch`; Ray Train is given none to copy
            failure_config=FailureConfig(max_failures=failures),
            logging_config=LoggingConfig(log_level="WARNING"),  # what goes well is on the channel
            worker_runtime_env={"env_vars": ALLOCATION},
        ),
    )


def run_rank(given: dict[str, Any]) -> TrainingResult:
    """In the worker's process: prepare it, then do the task, with the settings for as many ranks as there are."""
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        from pipeline.training.elastic import Ear
        from pipeline.training.runtime import prepare_process

        settings, resources = given["settings"], given["settings"][world_size]
        prepare_process(threads=resources.cpus_per_worker or 1)
        from pipeline.training.worker import Order

        ear = Ear(resources, world_size, least=min(settings)) if given["listens"] else None
        module, _, name = given["task"].partition(":")
        do = getattr(importlib.import_module(module), name)
        return do(Order(resources=resources, notice=ear, **given["order"]))  # type: ignore[no-any-return]
    except Exception as error:  # whatever it is, the driver is to know the rank, the place and the time
        raise as_rank_error(error, rank=rank) from error


def _result(fitted: Any) -> TrainingResult:
    returned: TrainingResult = fitted.return_value
    return returned


def _explained(error: Exception, scratch: Folder) -> Exception:
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if failures:
        return first_cause(failures, hang=reported_hang(scratch))
    return StageFailedError(
        f"the training workers could not be started: {error}",
        where="resources",
        allowed="workers that the cluster can place",
        do="check with `ray status` that the nodes are alive, then run the same command again",
    )
