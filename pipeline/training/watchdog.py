"""A rank that hangs is found by its own watchdog, or by another's where the whole process stands still.

Each rank leaves a beat in the store's work folder every few seconds: its phase and step, how many collectives it has
joined, its stack. Nobody reads them until a rank has been without a sign of life for half of `hang_seconds`. Whoever
waits in a collective is a victim. The culprit is a rank whose beats have ended, or the one that has joined the fewest
collectives. It ends, as if it had been killed, so that all ranks start again from the last checkpoint.
"""

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.dag.folder import Folder
from pipeline.dag.stage import Channel
from pipeline.errors import StageFailedError
from pipeline.training.pulse import Phase, Pulse, Sight, collective_name
from pipeline.training.ranks import Ranks

HANG_SECONDS = 90.0
SLOW_FACTOR = 10
"Of `hang_seconds`, for set-up, the first step, checkpoints and the artifact."
LONGER_THAN_EVER = 2.0
"A silence that is no more than so many times the longest one so far is no hang."
LONGEST_INTERVAL_SECONDS = 5.0
LEAVE_SECONDS = 1.0
"For what was said to leave the process before it ends."
HANG_FILE = "hang.json"
FROZEN_FRACTION = 0.5
"Of `hang_seconds`, after which a rank whose beats stay the same stands still as a whole."

NOTHING = Sight(Phase.data, 0, 0.0, is_slow=False, longest_seconds=0.0, num_collectives=0)
"Of a rank that has left no beat."


@dataclass(frozen=True)
class Place:
    """Where a rank runs."""

    machine: str
    namespace: str
    "In which `process` is a number: containers may share a machine's name."
    process: int


@dataclass(frozen=True)
class Seen:
    """A rank as another one sees it."""

    sight: Sight
    unchanged_seconds: float
    "For which its beat has been the same, by the watch of the one who looks."


@dataclass(frozen=True)
class Culprit:
    """The rank that keeps the others waiting."""

    rank: int
    sight: Sight
    is_frozen: bool
    "Whether not even its watchdog runs."


def find_culprit(seen: dict[int, Seen], *, hang_seconds: float) -> Culprit | None:
    """Of all ranks, the one that hangs; None: whoever is behind is at work, or waits for tokens.

    A frozen one before one that is behind: the others may be behind because of it.
    """
    for rank, each in sorted(seen.items()):
        if each.unchanged_seconds >= FROZEN_FRACTION * patience(each.sight, hang_seconds):
            return Culprit(rank, each.sight, is_frozen=True)
    fewest = min(each.sight.num_collectives for each in seen.values())
    for rank, each in sorted(seen.items()):
        is_late = each.sight.silent_seconds >= patience(each.sight, hang_seconds)
        if each.sight.num_collectives == fewest and is_late:
            return Culprit(rank, each.sight, is_frozen=False)
    return None


def patience(sight: Sight, hang_seconds: float) -> float:
    """How long a rank may be silent where it is: on slow devices a forward pass may take longer than `hang_seconds`."""
    if sight.is_slow:
        return hang_seconds * SLOW_FACTOR
    return max(hang_seconds, LONGER_THAN_EVER * sight.longest_seconds)


@dataclass
class Watchdog:
    """One for each rank; its thread looks every few seconds, and ends the process that hangs."""

    pulse: Pulse
    ranks: Ranks
    folder: Folder
    channel: Channel
    hang_seconds: float
    places: list["Place"]
    "Of each rank."
    attempt: str
    "Tells the beats of these processes from those of processes before them."
    _ended: threading.Event = field(default_factory=threading.Event)
    _num_beats: int = 0
    _seen: dict[int, tuple[int, float, Sight]] = field(default_factory=dict)
    "Of other ranks: the newest beat, when it came, and what it says."

    def watch(self) -> None:
        """Until `end`."""
        interval = min(LONGEST_INTERVAL_SECONDS, self.hang_seconds / 6)
        while not self._ended.wait(interval):
            with suppress(OSError):  # a store that is away for the moment is no reason to stop watching
                self.look()

    def end(self) -> None:
        self._ended.set()
        if self.ranks.world_size > 1:
            with suppress(OSError):
                self.folder.delete(_beat_file(self.ranks.rank))

    def look(self) -> None:
        """Leave a beat; and look at the others where this rank has been silent for long."""
        sight = self.pulse.look()
        if self.ranks.world_size > 1:
            self._num_beats += 1
            beat = {"attempt": self.attempt, "number": self._num_beats, "sight": sight.as_json()}
            self._leave(json.dumps(beat).encode())
        if sight.silent_seconds < (1 - FROZEN_FRACTION) * self.hang_seconds:
            self._seen.clear()
            return
        seen = self._look_at_others() | {self.ranks.rank: Seen(sight, 0.0)}
        if sight.silent_seconds >= self.hang_seconds:
            culprit = find_culprit(seen, hang_seconds=self.hang_seconds)
            if culprit and self._is_for_me(culprit):
                self._finish(culprit)

    def _leave(self, beat: bytes) -> None:
        """Not by the folder's own way where it is local: that waits for the disk, which a checkpoint may keep busy."""
        name = _beat_file(self.ranks.rank)
        if not self.folder.is_local:
            self.folder.write_bytes(name, beat)
            return
        path = Path(self.folder.at(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_bytes(beat)
        path.with_suffix(".part").replace(path)

    def _look_at_others(self) -> dict[int, Seen]:
        now = time.monotonic()
        for rank in range(self.ranks.world_size):
            if rank == self.ranks.rank:
                continue
            number = self._seen.setdefault(rank, (-1, now, NOTHING))[0]
            with suppress(OSError):
                beat = self.folder.read_json(_beat_file(rank))
                if beat["attempt"] == self.attempt and beat["number"] != number:
                    self._seen[rank] = (beat["number"], now, Sight.from_json(beat["sight"]))
        return {rank: Seen(sight, now - since) for rank, (_, since, sight) in self._seen.items()}

    def _is_for_me(self, culprit: Culprit) -> bool:
        """A culprit ends by itself; for one that is frozen, the first rank that is not does it."""
        if not culprit.is_frozen:
            return culprit.rank == self.ranks.rank
        limit, now = FROZEN_FRACTION * self.hang_seconds, time.monotonic()
        alive = [rank for rank, (_, since, _) in self._seen.items() if now - since < limit]
        return self.ranks.rank < min(alive, default=self.ranks.world_size)

    def _finish(self, culprit: Culprit) -> None:
        """Tell, leave the report for the driver, and end the process that hangs; or this one, to the same effect."""
        error = self._error(culprit)
        self.folder.write_json(HANG_FILE, {"what": error.what, "where": error.where})
        stack = "\n".join(culprit.sight.stack) if culprit.is_frozen else self.pulse.stacks()
        self.channel.send({"kind": "note", "text": f"{error.what} ({error.where})\n{stack}"})
        time.sleep(LEAVE_SECONDS)
        place = self.places[culprit.rank]
        if replace(place, process=0) == replace(self.places[self.ranks.rank], process=0):
            os.kill(place.process, signal.SIGKILL)
        os._exit(1)

    def _error(self, culprit: Culprit) -> StageFailedError:
        sight, mine = culprit.sight, self.pulse
        place = next((line for line in sight.stack if "site-packages" not in line), "nowhere in Python")
        last = collective_name(sight.num_collectives)
        seen = f"in {sight.phase.value} of step {sight.step}"
        where = f"rank {culprit.rank} on {self.places[culprit.rank].machine}, {place}; its last collective is number "
        where += f"{sight.num_collectives}, {last}"
        if culprit.is_frozen:
            waits = f"rank {self.ranks.rank} waits for it in {mine.phase.value} of step {mine.step}"
            what = f"rank {culprit.rank} hangs: it stands still as a whole, last seen {seen}"
            return hang_error(what, f"{where}; {waits}")
        silent = f"it gives no sign of life for {sight.silent_seconds:.0f} s"
        return hang_error(f"rank {culprit.rank} hangs: {silent}, {seen}", where)


def hang_error(what: str, where: str) -> StageFailedError:
    return StageFailedError(
        what,
        where=where,
        allowed="a sign of life within resources.hang_seconds",
        do="look at the stacks in the log, and at the device and the storage of that machine; "
        "the same command goes on from the last checkpoint",
    )


def reported_hang(scratch: Folder) -> StageFailedError | None:
    """The report of the ranks' last start, where a rank of it hung."""
    try:
        report = health_folder(scratch).read_json(HANG_FILE)
    except FileNotFoundError:
        return None
    return hang_error(report["what"], report["where"])


def health_folder(scratch: Folder) -> Folder:
    return scratch.child("health")


@contextmanager
def watched(
    *, ranks: Ranks, scratch: Folder, channel: Channel, hang_seconds: float | None
) -> Iterator[Pulse]:
    """A pulse that is watched within; called by all ranks together, from the thread that trains."""
    folder = health_folder(scratch)
    if ranks.is_first:
        folder.delete(HANG_FILE)  # of an earlier start
    hellos = ranks.gather((uuid.uuid4().hex, _place()))
    pulse = Pulse()
    watchdog = Watchdog(
        pulse,
        ranks,
        folder,
        channel,
        hang_seconds or HANG_SECONDS,
        places=[place for _, place in hellos],
        attempt=hellos[0][0],
    )
    thread = threading.Thread(target=watchdog.watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield pulse
    finally:
        watchdog.end()
        thread.join(timeout=LONGEST_INTERVAL_SECONDS)


def _place() -> Place:
    namespace = Path("/proc/self/ns/pid")
    return Place(
        socket.gethostname(), str(namespace.readlink()) if namespace.is_symlink() else "", os.getpid()
    )


def _beat_file(rank: int) -> str:
    return f"rank-{rank:05d}.json"
