"""Ray Train around the one loop: workers placed, connected, watched, and started again when one is lost."""

import importlib
import os
import tempfile
import time
from functools import partial
from typing import Any

import ray

from model.config import ModelConfig
from pipeline.dag.folder import Folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Channel
from pipeline.errors import StageFailedError
from pipeline.training.config import TrainingConfig, split_batch
from pipeline.training.failure import as_rank_error, first_cause
from pipeline.training.fit import fitted
from pipeline.training.job import TrainingJob, TrainingResult
from pipeline.training.memory import GIB
from pipeline.training.pace import Paces, measured_bytes
from pipeline.training.placement import settled
from pipeline.training.watchdog import HANG_SECONDS, reported_hang

TRAIN, PROBE = "pipeline.training.worker:work", "pipeline.training.probe:probe"
"""What ranks can be asked to do; imported there, not in the driver."""
MAX_FAILURES = 3
DRIVER_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # the default of 2 s is what a lost rank, and the end, wait for
    "RAY_TRAIN_METRICS_ENABLED": "0",  # for Ray's dashboard; our own metrics are on the channel
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
STANDSTILL_SETTING = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
STANDSTILL_GRACE_SECONDS = 20
"After which Ray ends a rank that stands still: a single one, that no other watches."


def launch(
    job: TrainingJob,
    *,
    resources: Resources,
    channel: Channel,
    scratch: Folder,
    output: Folder,
    vocab_size: int,
    measured: Folder | None = None,
    task: str = TRAIN,
) -> TrainingResult:
    """Do a task of `job` on the connected Ray cluster, from any thread.

    After TRAIN the artifact is in `output`; PROBE writes none. What steps took is remembered in `measured`.

    Raises:
        ConfigError: the global batch cannot be shared out, or the cluster has not got the resources.
        StageFailedError: a rank failed; its number, its first cause, and what to do.
    """
    resources = settled(
        resources, ray.cluster_resources(), sequences_per_step=job.training.sequences_per_step
    )
    assert resources.num_workers is not None
    split_batch(job.training, world_size=resources.num_workers, micro_batch_size=resources.micro_batch_size)
    resources = _fitting(job, resources, channel, vocab_size, measured)
    prepare_driver()
    os.environ[STANDSTILL_SETTING] = str((resources.hang_seconds or HANG_SECONDS) + STANDSTILL_GRACE_SECONDS)
    from ray.train import TrainingFailedError

    with tempfile.TemporaryDirectory(prefix="headrace-ray-train-") as storage:
        order = {
            "job": job,
            "resources": resources,
            "channel": channel,
            "scratch": scratch,
            "output": output,
            "measured": measured,
            "ordered_at": time.time(),
        }
        trainer = _trainer({"task": task, "order": order}, resources, storage)
        try:
            return _result(trainer.fit())
        except TrainingFailedError as error:
            raise _explained(error, scratch) from error


def _fitting(
    job: TrainingJob, resources: Resources, channel: Channel, vocab_size: int, measured: Folder | None
) -> Resources:
    """What is open is chosen so that it fits into the memory that ranks will find; said where that took something."""
    if resources.num_gpus:
        found = resources.gpu_memory_gib
        size = found * GIB if found else ray.get(_gpu_bytes.options(num_gpus=resources.num_gpus).remote())
        size, name = size * min(1.0, resources.num_gpus), "GPU"
    else:
        nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        ranks_of_node = -(-(resources.num_workers or 1) // len(nodes))
        size, name = min(each.get("memory", 0) for each in nodes) / ranks_of_node, "rank's share of a node"
    model = job.model.with_vocab_size(vocab_size)
    known = partial(_measured, measured, model, job.training)
    fit = fitted(model, job.training, resources, device_bytes=size, device=name, measured=known)
    if fit.reason:
        channel.send({"kind": "note", "text": fit.words()})
    return fit.resources


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
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one machine is drained by nobody
    importlib.import_module("pipeline.training.supervision")


def _trainer(given: dict[str, Any], resources: Resources, storage: str) -> Any:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    from pipeline.training.supervision import Trainer

    assert resources.num_workers is not None
    failures = MAX_FAILURES if resources.max_failures is None else resources.max_failures
    gpus = resources.num_gpus or 0
    per_worker = {"CPU": float(resources.cpus_per_worker or 1)} | ({"GPU": gpus} if gpus else {})
    return Trainer(
        run_rank,
        train_loop_config=given,
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers, use_gpu=bool(gpus), resources_per_worker=per_worker
        ),
        run_config=RunConfig(
            name="train",
            storage_path=storage,  # our checkpoints are in `scratch`; Ray Train is given none to copy
            failure_config=FailureConfig(max_failures=failures),
            logging_config=LoggingConfig(log_level="WARNING"),  # what goes well is on the channel
        ),
    )


def run_rank(given: dict[str, Any]) -> TrainingResult:
    """In the worker's process: prepare it, then do the task."""
    rank, order = int(os.environ["RANK"]), given["order"]
    try:
        from pipeline.training.runtime import prepare_process

        prepare_process(threads=order["resources"].cpus_per_worker or 1)
        from pipeline.training.worker import Order

        module, _, name = given["task"].partition(":")
        return getattr(importlib.import_module(module), name)(Order(**order))  # type: ignore[no-any-return]
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
