"""The terminal kept for the report: everything else that a process and its children print goes to a log file."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True)
class Streams:
    """What the terminal was before."""

    out: TextIO
    err: TextIO


@contextlib.contextmanager
def quiet(log_path: Path) -> Iterator[Streams]:
    """Send file descriptors 1 and 2 to `log_path` for the length of the block, and yield the real streams.

    The descriptors themselves are turned, so that the words of C libraries and of every subprocess started inside
    go to the log too. The real streams are not passed on to subprocesses.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    _flush()
    kept = os.dup(1), os.dup(2)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    encoding = sys.stdout.encoding or "utf-8"
    with (
        open(kept[0], "w", encoding=encoding, errors="replace", buffering=1) as out,  # noqa: PTH123
        open(kept[1], "w", encoding=encoding, errors="replace", buffering=1) as err,  # noqa: PTH123
    ):
        try:
            yield Streams(out, err)
        finally:
            _flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
