"""A Ray cluster's job server: reach it, send a job, follow its log, and learn how it ended."""

import asyncio
import logging
import os
import shlex
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.cluster import read_environment_again
from pipeline.errors import ConfigError, StageFailedError
from pipeline.submit.parcel import START, Parcel, check_size

CONNECT_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
"How long a log is looked for whose connection broke, before the job is left to itself."
STOP_SECONDS = 30
"What a job is given to end by itself: its statuses become true, and its work is kept."
INTERRUPTED = 130
OURS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"Ray takes these before the address it is given."


@dataclass(frozen=True)
class JobEnd:
    """How a job ended."""

    status: str
    "SUCCEEDED, FAILED or STOPPED."
    exit_code: int
    "The verb's own; 130 where the job was stopped."
    message: str
    "Ray's words where the verb was never started."


class Cluster:
    """The job server of a running Ray cluster.

    Args:
        address: such as http://127.0.0.1:8265, which `ray start --head` prints as the dashboard's.

    Raises:
        ConfigError: no address, nobody there, no Ray there, or one that does not know us.
    """

    def __init__(self, address: str) -> None:
        self.address = _checked(address)
        _take_token_along()
        with _reported(self.address):
            from ray.job_submission import JobSubmissionClient

            with _without(OURS):
                self._client: Any = JobSubmissionClient(self.address)

    def submit(self, parcel: Parcel) -> str:
        """Send a job and return its submission id.

        Raises:
            ConfigError: the parcel is too large, or the cluster refuses it.
        """
        from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

        check_size(parcel, limit=GCS_STORAGE_MAX_SIZE, folder=Path.cwd())
        with tempfile.TemporaryDirectory(prefix="headrace-submit-") as folder, _reported(self.address):
            path = Path(folder) / "headrace.zip"
            path.write_bytes(parcel.content)
            submission: str = self._client.submit_job(
                entrypoint=shlex.join(["sh", START, *parcel.command]),
                runtime_env={
                    "working_dir": str(path),
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
                },
                metadata={"name": shlex.join(["headrace", *parcel.command])},
            )
        return submission

    def follow(self, submission: str, *, write: Callable[[str], None]) -> JobEnd:
        """Pass the job's log on until it ends. Where the connection breaks, it goes on from where it broke.

        Raises:
            StageFailedError: the cluster was out of reach for long; the job itself goes on.
        """
        written, seen_at = 0, time.monotonic()
        while True:
            before = written
            try:
                written = asyncio.run(self._tail(submission, written, write))
                if end := self.end_of(submission):
                    return end
            except (ConnectionError, OSError, RuntimeError) as error:
                self._check_patience(submission, seen_at, error)
            if written > before:
                seen_at = time.monotonic()
            time.sleep(1.0)

    def stop(self, submission: str) -> JobEnd | None:
        """Ask the job to end, and wait for it; None where it has not ended in time."""
        self._client.stop_job(submission)
        deadline = time.monotonic() + STOP_SECONDS + CONNECT_SECONDS
        while time.monotonic() < deadline:
            if end := self.end_of(submission):
                return end
            time.sleep(0.5)
        return None

    def end_of(self, submission: str) -> JobEnd | None:
        """How the job ended; None while it has not."""
        info = self._client.get_job_info(submission)
        status = str(info.status.value)
        if not info.status.is_terminal():
            return None
        if status == "STOPPED":
            return JobEnd(status, INTERRUPTED, "")
        code = info.driver_exit_code
        if code is None:
            return JobEnd(status, 1, str(info.message or ""))
        return JobEnd(status, code if 0 <= code <= 255 else 1, "")  # noqa: PLR2004 - what a process can end with

    def hints(self, submission: str) -> list[tuple[str, str]]:
        """What can be done with the job from any terminal."""
        at = f"--address {self.address} {submission}"
        return [
            ("look again", f"ray job logs --follow {at}"),
            ("its state", f"ray job status {at}"),
            ("stop it", f"ray job stop {at}"),
        ]

    async def _tail(self, submission: str, skip: int, write: Callable[[str], None]) -> int:
        """Write what comes after the first `skip` characters; returns how many there are now."""
        position = 0
        async for text in self._client.tail_job_logs(submission):
            start = max(0, skip - position)
            position += len(text)
            if start < len(text):
                write(text[start:])
        return max(position, skip)

    def _check_patience(self, submission: str, seen_at: float, error: Exception) -> None:
        if time.monotonic() - seen_at > PATIENCE_SECONDS:
            raise StageFailedError(
                f"the cluster has been out of reach for {PATIENCE_SECONDS:g} s: {_first_line(error)}",
                where=self.address,
                allowed="a job server that answers",
                do=f"the job goes on; look again with: {dict(self.hints(submission))['look again']}",
            ) from error


def _checked(address: str) -> str:
    """The address with its scheme, once somebody has answered there."""
    whole = address if "://" in address else f"http://{address}"
    parts = urlsplit(whole)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _unreachable(address, "this is no address of a job server")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise _unreachable(whole, f"nobody answers there: {error}") from error
    return whole.rstrip("/")


def _take_token_along() -> None:
    """Ray's client shows its token only where the mode says so; `ray.init` looks for one by itself, and so do we."""
    logging.getLogger("ray.dashboard.modules").setLevel("WARNING")  # it tells of each upload
    if "RAY_AUTH_MODE" not in os.environ and read_environment_again().has_token(ignore_auth_mode=True):
        os.environ["RAY_AUTH_MODE"] = "token"
        read_environment_again()


@contextmanager
def _reported(address: str) -> Iterator[None]:
    """What Ray's client and its HTTP library raise, in four parts."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise ConfigError(
            f"the cluster refuses us: {_first_line(error)}",
            where=f"--address {address}",
            allowed="the token of the cluster, in RAY_AUTH_TOKEN, in the file RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token",
            do="copy it from the head node (`ray get-auth-token` prints it there), and set RAY_AUTH_MODE=token",
        ) from error
    except (ConnectionError, requests.RequestException, RuntimeError, ValueError) as error:
        raise _unreachable(address, f"there is no Ray job server: {_first_line(error)}") from error


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _unreachable(address: str, why: str) -> ConfigError:
    return ConfigError(
        why,
        where=f"--address {address}",
        allowed="http://HOST:PORT of the dashboard of a running Ray cluster, which `ray start --head` prints",
        do="start the cluster, correct the address, or open the way to it: `ray dashboard cluster.yaml`",
    )


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
