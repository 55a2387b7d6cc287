"""Circumstance worth keeping with an artifact: when, where, and with which code it was built."""

import functools
import importlib.metadata
import platform
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

LIBRARIES = (
    "headrace",
    "torch",
    "deepspeed",
    "ray",
    "mlflow",
    "pyarrow",
    "tokenizers",
    "transformers",
    "trafilatura",
    "numpy",
)


def gather(run_id: str, started_at: float, resources: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "started_at": started_at,
        "seconds": round(time.time() - started_at, 3),
        "host": socket.gethostname(),
        "resources": {name: value for name, value in resources.items() if value is not None},
        "code_commit": code_commit(),
        "versions": versions(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Installed versions of what can change a result."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "not installed"
    return found


@functools.cache
def code_commit() -> str:
    """The commit of the checkout this code runs from, with `+changes` where it differs; empty outside of one."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
