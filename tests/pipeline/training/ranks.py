"""Ranks of training outside of Ray: processes forked from one that has loaded what all of them need."""

import os
import signal
from multiprocessing import get_context
from pathlib import Path

WARM = get_context("forkserver")
WARM.set_forkserver_preload(["tests.pipeline.training.one_rank"])


class Rank:
    """Works off orders as one of several ranks; with the parts of `subprocess.Popen` that tests use."""

    def __init__(self, orders: Path, *, rank: int, world_size: int, store: Path) -> None:
        self._log = orders.with_name(f"{orders.stem}-rank-{rank}.log")
        given = (str(orders), rank, world_size, str(store), str(self._log), dict(os.environ))
        self._process = WARM.Process(target=_enter, args=given, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        """How it ended; minus the signal that killed it; None: it has not."""
        return self._process.exitcode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def ended(self, *, seconds: float = 400) -> int:
        """How it ended, after so long at most."""
        self._process.join(seconds)
        code = self.poll()
        assert code is not None, f"rank {self.pid} did not end in {seconds} s: {self.said}"
        return code

    @property
    def said(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text()[-3000:] if self._log.exists() else ""


def start(orders: Path, *, world_size: int, store: Path) -> list[Rank]:
    return [Rank(orders, rank=rank, world_size=world_size, store=store) for rank in range(world_size)]


def _enter(
    orders: str, rank: int, world_size: int, store: str, log: str, environment: dict[str, str]
) -> None:
    """The environment is that of the test: the process that was forked may be older than it."""
    os.environ.clear()
    os.environ |= environment
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for output in (1, 2):
        os.dup2(sink, output)
    from tests.pipeline.training.one_rank import main

    main(orders, rank, world_size, store)
