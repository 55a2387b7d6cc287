"""How many ranks a training gets, with how many threads: asked for, or what pays. Free of torch and Ray, for `plan`."""

from dataclasses import replace

from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError

MOST_CPU_RANKS = 2
"""Ranks on CPUs unless told otherwise, each with its share of the threads. On two cores two ranks of one thread train
a 3M model 8 to 23% faster than one rank of two, and a 33M model 16%, exchange of gradients included: one thread never
waits for another at the end of each kernel.
"""


def settled(resources: Resources, cluster: dict[str, float], *, sequences_per_step: int) -> Resources:
    """Resources with every number filled in: what the cluster has, and what the global batch divides by."""
    gpus, cpus = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 1))
    per_rank = resources.num_gpus if resources.num_gpus is not None else float(min(gpus, 1))
    most = int(gpus / per_rank) if per_rank else min(cpus, MOST_CPU_RANKS)
    automatic = max(n for n in range(1, max(most, 1) + 1) if sequences_per_step % n == 0)
    workers = resources.num_workers or automatic
    threads = resources.cpus_per_worker or max(1, cpus // max(workers, gpus if per_rank else 1))
    wanted = {"GPU": per_rank * workers, "CPU": float(threads * workers)}
    for kind, number in wanted.items():
        if number > cluster.get(kind, 0):
            raise ConfigError(
                f"{workers} ranks need {number:g} {kind}s, and the cluster has {cluster.get(kind, 0):g}",
                where="resources",
                allowed=f"at most {cluster.get(kind, 0):g} {kind}s in all",
                do="lower num_workers or what each of them takes",
            )
    return replace(resources, num_workers=workers, num_gpus=per_rank, cpus_per_worker=threads)
