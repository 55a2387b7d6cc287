"""Which process a run belongs to, so that a later one can tell whether it still lives."""

import os
import socket

import psutil

CLOCK_SECONDS = 5.0
"How far the start of one process may appear to move when the machine's clock is corrected."


def this_process() -> str:
    """Host, process id and start instant (seconds since 1970), separated by spaces."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def host_prefix() -> str:
    """What `this_process` begins with on this host."""
    return f"{socket.gethostname()} "


def is_gone(identity: str) -> bool:
    """True when the process named by `this_process` ran on this host and has ended.

    A process id that the system gave to another process since then counts as ended; a process of another host
    cannot be judged from here and counts as alive.
    """
    host, _, rest = identity.partition(" ")
    pid, _, started_at = rest.partition(" ")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        return (
            abs(process.create_time() - float(started_at)) > CLOCK_SECONDS
            or process.status() == psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return True
