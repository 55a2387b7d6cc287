"""Which process holds something, so that a later one can tell whether it still lives."""

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil

CLOCK_SECONDS = 5.0
"How far the start of one process may appear to move when the machine's clock is corrected."


class ProcessId(NamedTuple):
    """A process of one machine; as text its parts with spaces between."""

    machine: str
    "The host's name, its boot and, in a container, the container: process ids mean something only there."
    pid: int
    started_at: float
    "Seconds since 1970."

    @staticmethod
    def current() -> "ProcessId":
        return ProcessId(this_machine(), os.getpid(), psutil.Process().create_time())

    @staticmethod
    def parse(text: str) -> "ProcessId":
        """Of what `str` gave; ValueError for anything else."""
        machine, pid, started_at = text.rsplit(" ", 2)
        return ProcessId(machine, int(pid), float(started_at))

    @property
    def host(self) -> str:
        return self.machine.partition(" ")[0]

    def is_gone(self) -> bool:
        """Whether it ran on this machine and has ended; False for another machine's, of which nothing can be said.

        A process id that the system gave to another process since then counts as ended.
        """
        if self.machine != this_machine():
            return False
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < CLOCK_SECONDS
            return not same or process.status() == psutil.STATUS_ZOMBIE
        return True

    def __str__(self) -> str:
        return f"{self.machine} {self.pid} {self.started_at:.2f}"


@cache
def this_machine() -> str:
    names = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            names.append(Path(path).read_text().strip() if "boot_id" in path else str(Path(path).readlink()))
    return " ".join(names)
