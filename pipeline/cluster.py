"""The Ray cluster a run works on: one on this machine for the time of the run, or one that is already there."""

import importlib
import os
import secrets
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from pipeline.errors import ConfigError


@dataclass
class ClusterConfig:
    """Where the work is done. Circumstance: no part of any fingerprint."""

    address: str | None = None
    "Address of a running Ray cluster: auto, HOST:PORT or ray://…. None: a Ray on this machine, ended with the run."
    num_cpus: int | None = None
    "CPU cores to use of this machine; >= 1. None: all of them. Ignored with an address."
    num_gpus: int | None = None
    "GPUs to use of this machine; >= 0. None: all of them. Ignored with an address."


@contextmanager
def connected(config: ClusterConfig, *, on_loss: Callable[[], None]) -> Iterator[None]:
    """A connection to the cluster for the block.

    Args:
        config: which cluster.
        on_loss: called once, from a thread, when the Ray of this machine dies under us.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    _silence()
    address = config.address or os.environ.get("RAY_ADDRESS")
    if not address:
        _keep_to_ourselves()
    import ray

    _begin_none_unasked()
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            ray.init(address=address, namespace="headrace", logging_level="warning", log_to_driver=True)
        else:
            ray.init(
                num_cpus=config.num_cpus or usable_cores(),
                num_gpus=config.num_gpus,
                include_dashboard=False,
                runtime_env=_runtime_env(),
                namespace="headrace",
                logging_level="warning",
                log_to_driver=True,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"there is no Ray cluster to work on: {str(error).partition(chr(10))[0]}",
            where=f"cluster.address={address}" if address else "cluster",
            allowed="the address of a running cluster (`ray start --head` prints it), or null for one on this machine",
            do="start the cluster or correct the address",
        ) from error
    signal.signal(signal.SIGTERM, on_termination)  # Ray's own, put in its place, aborts the process
    done = threading.Event()
    if not address:
        threading.Thread(target=_watch_raylet, args=(done, on_loss), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        ray.shutdown()


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _runtime_env() -> dict[str, str] | None:
    """Ray gives a shell the interpreter of workers that have environment variables, and does not quote it."""
    quoted = shlex.quote(sys.executable)
    return {"py_executable": quoted} if quoted != sys.executable else None


def _silence() -> None:
    """Ray phones nobody and asks nothing; what it says to its log is bounded."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")


def _begin_none_unasked() -> None:
    """Let calls without a connection fail: a late thread of a run that has ended would begin a Ray of its own.

    RAY_ENABLE_AUTO_CONNECT says so too, to a Ray that has not been imported.
    """
    hook: Any = importlib.import_module("ray._private.auto_init_hook")
    hook.enable_auto_connect = False


def _keep_to_ourselves() -> None:
    """Let nobody else into the Ray of this command: a token of its own, known to its processes alone.

    Without a mode set, `ray.init` prints a warning and writes a token for good into the home folder; without tokens,
    whoever reaches the ports runs any code as this user.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    read_environment_again()


def read_environment_again() -> Any:
    """Let Ray see a changed RAY_AUTH_MODE: it has read the environment when it was imported. Its token loader."""
    raylet: Any = importlib.import_module("ray._raylet")  # compiled: its names are known to no type checker
    raylet.Config.initialize("")
    loader = raylet.AuthenticationTokenLoader.instance()
    loader.reset_cache()
    return loader


def _watch_raylet(done: threading.Event, on_loss: Callable[[], None]) -> None:
    """Tell `on_loss` when the raylet that we started has ended: Ray itself would let the driver wait for long."""
    children = psutil.Process().children(recursive=True)
    raylets = [child for child in children if child.name().startswith("raylet")]
    while raylets and not done.wait(0.5):
        if not all(raylet.is_running() and raylet.status() != psutil.STATUS_ZOMBIE for raylet in raylets):
            on_loss()
            return
