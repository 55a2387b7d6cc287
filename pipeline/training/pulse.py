"""Signs of life of a rank: what it is doing, since when, and which collective it joined last."""

import json
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import FrameType
from typing import Any

from torch._C import _distributed_c10d as c10d

from pipeline.dag.following import Following

STACK_FRAMES = 30


class Phase(Enum):
    """What a rank does between two signs of life."""

    set_up = "set-up"
    data = "data"
    forward = "forward"
    backward = "backward"
    exchange = "exchange of the loss"
    optimizer = "optimizer"
    record = "record"
    evaluation = "evaluation"
    checkpoint = "checkpoint"
    artifact = "artifact"
    waiting = "waiting for tokens"
    "Of a node that is still writing them; no hang, however long."


SLOW = {Phase.set_up, Phase.checkpoint, Phase.artifact}
"Between two signs of life of these lie whole files, or a compiler."


@dataclass
class Pulse:
    """Written by the thread that trains, read by the watchdog's."""

    phase: Phase = Phase.set_up
    step: int = 0
    "Updates, the one that is being made included."
    first_step: int | None = None
    "The first that this process makes."
    longest_seconds: float = 0.0
    "Between two signs of life of a step, so far."
    _at: float = field(default_factory=time.monotonic)
    _thread: int = field(default_factory=threading.get_ident)

    def enter(self, phase: Phase, step: int | None = None) -> None:
        """A sign of life: from now on the rank is in this phase, of the update number `step` (None: as before)."""
        if step is not None:
            self.first_step = step if self.first_step is None else self.first_step
            self.step = step
        now = time.monotonic()
        if self.phase not in SLOW:
            self.longest_seconds = max(self.longest_seconds, now - self._at)
        self.phase, self._at = phase, now

    def look(self) -> "Sight":
        """What can be seen of the rank from another thread."""
        frames = list(self._frames())
        is_waiting = any(frame.f_code is Following.wait.__code__ for frame in frames)
        return Sight(
            phase=Phase.waiting if is_waiting else self.phase,
            step=self.step,
            silent_seconds=0.0 if is_waiting else time.monotonic() - self._at,
            is_slow=self.phase in SLOW or self.step == self.first_step,
            longest_seconds=self.longest_seconds,
            num_collectives=num_collectives(),
            stack=[_line(frame) for frame in frames[:STACK_FRAMES]],
        )

    def stacks(self) -> str:
        """The Python stacks of all threads, that of the training first."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        frames = sorted(sys._current_frames().items(), key=lambda each: each[0] != self._thread)  # noqa: SLF001
        return "\n".join(
            f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame)).rstrip()}"
            for ident, frame in frames
        )

    def _frames(self) -> Iterator[FrameType]:
        """Of the training thread, innermost first."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - the documented way to another's stack
        while frame is not None:
            yield frame
            frame = frame.f_back


@dataclass(frozen=True)
class Sight:
    """A rank as it was seen; JSON can hold it, but for the phase."""

    phase: Phase
    step: int
    silent_seconds: float
    "Since the last sign of life."
    is_slow: bool
    "Whether it is in something that may take long."
    longest_seconds: float
    "Between two signs of life of a step, so far."
    num_collectives: int
    "That it has joined; who waits in one has joined it."
    stack: list[str] = field(default_factory=list)
    "Of the training thread, innermost first."

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"phase": self.phase.name}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Sight":
        return cls(**(content | {"phase": Phase[content["phase"]]}))


def num_collectives() -> int:
    """How many collectives this process has joined in all its groups, by torch's flight recorder; 35 us."""
    groups = _flight_record(with_entries=False).get("pg_status", {}).values()
    return sum(max(0, int(group["last_enqueued_collective"])) for group in groups)


def collective_name(number: int) -> str:
    """The name of this process's collective `number`, from 1, where it is among the newest."""
    entries = _flight_record(with_entries=True).get("entries", [])
    return next((entry["profiling_name"] for entry in entries if entry["record_id"] == number - 1), "none")


def _flight_record(*, with_entries: bool) -> dict[str, Any]:
    record = c10d._dump_fr_trace_json(with_entries)  # type: ignore[attr-defined]  # noqa: SLF001 - as torch's analyzer
    found: dict[str, Any] = json.loads(record)
    return found


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
