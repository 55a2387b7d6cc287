"""How many ranks a training gets, with how many threads: asked for, or what pays. Free of torch and Ray, for `plan`."""

from dataclasses import replace

from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError
from pipeline.training.config import TrainingConfig, split_batch

MOST_CPU_RANKS = 2
"""Ranks on CPUs unless told otherwise, each with its share of the threads. On two cores two ranks of one thread train
a 3M model 8 to 23% faster than one rank of two, and a 33M model 16%, exchange of gradients included: one thread never
waits for another at the end of each kernel.
"""


def settled(resources: Resources, cluster: dict[str, float], *, sequences_per_step: int) -> Resources:
    """Resources with every number filled in: what the cluster has, and what the global batch divides by.

    Raises:
        ConfigError: the cluster has not got them; of an elastic training it must have `min_workers`.
    """
    gpus, cpus = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 1))
    per_rank = resources.num_gpus if resources.num_gpus is not None else float(min(gpus, 1))
    most = int(gpus / per_rank) if per_rank else min(cpus, MOST_CPU_RANKS)
    automatic = max(n for n in range(1, max(most, 1) + 1) if sequences_per_step % n == 0)
    workers = resources.num_workers or automatic
    threads = resources.cpus_per_worker or max(1, cpus // max(workers, gpus if per_rank else 1))
    least = min(resources.min_workers or workers, workers)
    wanted = {"GPU": per_rank * least, "CPU": float(threads * least)}
    for kind, number in wanted.items():
        if number > cluster.get(kind, 0):
            raise ConfigError(
                f"{_counted(least, 'rank')} need{'s' * (least == 1)} {_counted(number, kind)}, and the cluster has "
                f"{cluster.get(kind, 0):g}",
                where="resources",
                allowed=f"at most {cluster.get(kind, 0):g} {kind}s in all",
                do=f"lower {'min' if resources.min_workers else 'num'}_workers or what each of them takes",
            )
    return replace(resources, num_workers=workers, num_gpus=per_rank, cpus_per_worker=threads)


def world_sizes(training: TrainingConfig, resources: Resources) -> list[int]:
    """The numbers of ranks that a training may run on, the most first: those that share the global batch out evenly.

    Only `num_workers` unless `min_workers` is set.

    Raises:
        ConfigError: the global batch cannot be shared out among `num_workers` ranks, or they are fewer than the least.
    """
    most = resources.num_workers or 1
    least = resources.min_workers or most
    split_batch(training, world_size=most, micro_batch_size=resources.micro_batch_size)
    if least > most:
        raise ConfigError(
            f"min_workers is {least}, and there are {most} ranks at most",
            where="resources.min_workers",
            allowed=f"1 to {most}, or null for a training that waits for all its ranks",
            do="lower min_workers, or raise num_workers",
        )
    return [number for number in range(most, least - 1, -1) if _divides(training, resources, number)]


def _counted(number: float, thing: str) -> str:
    return f"{number:g} {thing}{'s' * (number != 1)}"


def _divides(training: TrainingConfig, resources: Resources, world_size: int) -> bool:
    try:
        split_batch(training, world_size=world_size, micro_batch_size=resources.micro_batch_size)
    except ConfigError:
        return False
    return True
