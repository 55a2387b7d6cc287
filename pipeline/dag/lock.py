"""One builder per artifact, on any filesystem: Lamport's bakery over small files.

Object stores offer no lock, only whole-file reads, writes and listings. That is all the bakery algorithm needs
(L. Lamport, "A New Solution of Dijkstra's Concurrent Programming Problem", 1974): each run draws a ticket higher than
all it sees, and the lowest ticket builds. A claim whose holder is gone (its process has ended on this host, or its
heartbeat has stood still as seen by our own clock) is removed, so a killed run blocks nobody for long.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pipeline.dag.folder import Folder
from pipeline.dag.process import ProcessId

HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 30.0
POLL_SECONDS = 0.25


class Lock:
    """A claim on one artifact, in a folder of claims.

    Args:
        claims: the folder; runs that use the same folder exclude each other.
    """

    def __init__(self, claims: Folder) -> None:
        self._claims = claims
        self._name = f"{uuid.uuid4().hex}.json"
        self._process = str(ProcessId.current())
        self._ticket = 0
        self._beat = 0
        self._released = threading.Event()
        self._seen: dict[str, tuple[Any, float]] = {}

    @contextmanager
    def held(self, on_wait: Callable[[ProcessId], None] | None = None) -> Iterator[None]:
        """Hold the lock for the block; `on_wait(process)` is told once when another run has it."""
        self._draw_ticket()
        heart = threading.Thread(target=self._keep_beating, daemon=True)
        heart.start()
        try:
            self._wait_for_turn(on_wait)
            yield
        finally:
            self._released.set()
            heart.join()
            with suppress(OSError):
                self._claims.delete(self._name)

    def still_held(self) -> bool:
        """Whether nobody has declared us dead meanwhile (a machine asleep for a minute)."""
        return self._claims.exists(self._name)

    def _draw_ticket(self) -> None:
        self._write(choosing=True)
        self._ticket = 1 + max((claim["ticket"] for claim in self._others().values()), default=0)
        self._write(choosing=False)

    def _wait_for_turn(self, on_wait: Callable[[ProcessId], None] | None) -> None:
        told = False
        while ahead := self._ahead_of_us():
            if on_wait and not told:
                on_wait(ProcessId.parse(ahead["process"]))
                told = True
            time.sleep(POLL_SECONDS)

    def _ahead_of_us(self) -> dict[str, Any] | None:
        for name, claim in self._others().items():
            first = claim["choosing"] or (claim["ticket"], name) < (self._ticket, self._name)
            if not first:
                continue
            if self._is_dead(name, claim):
                self._claims.delete(name)
                continue
            return claim
        return None

    def _others(self) -> dict[str, dict[str, Any]]:
        found = {}
        for entry in self._claims.files(".json"):
            if entry.name != self._name:
                with suppress(FileNotFoundError, ValueError):
                    found[entry.name] = self._claims.read_json(entry.name)
        return found

    def _is_dead(self, name: str, claim: dict[str, Any]) -> bool:
        if ProcessId.parse(claim["process"]).is_gone():
            return True
        beat, since = self._seen.get(name, (None, 0.0))
        if claim["beat"] != beat:
            self._seen[name] = (claim["beat"], time.monotonic())
            return False
        return time.monotonic() - since > DEAD_AFTER_SECONDS

    def _keep_beating(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            if not self.still_held():
                return
            with suppress(OSError):
                self._write(choosing=False)

    def _write(self, *, choosing: bool) -> None:
        self._beat += 1
        claim = {"ticket": self._ticket, "choosing": choosing, "beat": self._beat, "process": self._process}
        self._claims.write_json(self._name, claim)
