"""Where the seconds of training go: data, forward, backward, exchange, optimizer, checkpoint, evaluation, and the rest.

One clock changes hands: at every moment exactly one part holds it, so the parts add up to all the time there is. On
CPUs the clock is the host's. On GPUs it is the events of the stream that computes, read when they have passed: nothing
waits for the device, and work of the host that the device does not wait for costs nothing here either.

On CPU ranks every exchange is apart, what a rank waits for slower ones included. On GPUs gradients and weights are
exchanged while others are computed, on streams of their own; `exchange` is then what the loop asks for itself, and what
computing has to wait for is in `forward`, `backward` and `optimizer`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import Enum
from functools import wraps
from typing import Any

import torch


class Part(Enum):
    """What a moment of training is spent on."""

    data = "data"
    forward = "forward"
    backward = "backward"
    exchange = "exchange"
    "Between ranks."
    optimizer = "optimizer"
    "Clipping included."
    checkpoint = "checkpoint"
    evaluation = "evaluation"
    other = "other"


WHOLE = (Part.checkpoint, Part.evaluation)
"""Parts between two steps, with all that is done in them."""


class Timing:
    """Seconds of each part since the last look.

    Args:
        mark: a moment, as the clock has it.
        elapsed: seconds between two moments; None while they have not passed.
    """

    def __init__(self, mark: Callable[[], Any], elapsed: Callable[[Any, Any], float | None]) -> None:
        self._mark, self._elapsed = mark, elapsed
        self._part = Part.other
        self._since = mark()
        self._open: deque[tuple[Part, Any, Any]] = deque()
        self._seconds: dict[Part, float] = {}
        self.is_traced = False
        "Whether a profiler is running, which is told the parts too."

    @contextmanager
    def part(self, part: Part) -> Iterator[None]:
        """Within, time is that of `part`; of one inside another, the inner, save in a checkpoint or an evaluation."""
        outer = self._switch(self._part if self._part in WHOLE else part)
        traced = torch.profiler.record_function(part.value) if self.is_traced else nullcontext()
        try:
            with traced:
                yield
        finally:
            self._switch(outer)

    def take(self, num_steps: int) -> dict[str, float]:
        """Seconds a step of each part there was since the last call, and of all of them: the mean of `num_steps`.

        Without a step: seconds of what is between steps. What an accelerator has not come to yet is in the next call's.
        """
        self._switch(self._part)
        found, self._seconds = self._seconds, {}
        if num_steps == 0:
            return {f"time/{part.value}": found[part] for part in WHOLE if part in found}
        metrics = {f"time/{part.value}": found[part] / num_steps for part in Part if part in found}
        return metrics | {"time/step": sum(found.values()) / num_steps}

    def restart(self) -> None:
        """Forget what was before: building and warming up are no training."""
        self._open.clear()
        self._seconds, self._since = {}, self._mark()

    def _switch(self, part: Part) -> Part:
        """Hand the clock over; who had it."""
        before, now = self._part, self._mark()
        self._open.append((before, self._since, now))
        self._part, self._since = part, now
        self._settle()
        return before

    def _settle(self) -> None:
        while self._open:
            part, begin, end = self._open[0]
            seconds = self._elapsed(begin, end)
            if seconds is None:
                return
            self._seconds[part] = self._seconds.get(part, 0.0) + seconds
            self._open.popleft()


def timing_on(device: torch.device) -> Timing:
    """The clock of a device."""
    if device.type == "cuda":
        return Timing(_mark_stream, _elapsed_on_stream)
    return Timing(time.perf_counter, lambda begin, end: float(end - begin))


EXCHANGES = (
    "all_reduce",
    "reduce",
    "broadcast",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_coalesced",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "all_to_all_single",
)
"""Calls of DeepSpeed's backend in which a CPU rank talks to others."""


def time_exchanges(backend: Any, timing: Timing) -> None:
    """Let a backend's collectives be `exchange`; of a backend of CPU ranks, which does nothing meanwhile."""
    for name in EXCHANGES:
        vars(backend).pop(name, None)  # that of an engine before this one
        setattr(backend, name, _timed(getattr(backend, name), timing))


def _timed(call: Callable[..., Any], timing: Timing) -> Callable[..., Any]:
    @wraps(call)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with timing.part(Part.exchange):
            handle = call(*args, **kwargs)
        if handle is None or not hasattr(handle, "wait"):
            return handle
        return _TimedHandle(handle, timing)

    return timed


class _TimedHandle:
    """A collective under way: waiting for it is `exchange` too."""

    def __init__(self, handle: Any, timing: Timing) -> None:
        self._handle, self._timing = handle, timing

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        with self._timing.part(Part.exchange):
            return self._handle.wait(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


def _mark_stream() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _elapsed_on_stream(begin: Any, end: Any) -> float | None:
    return begin.elapsed_time(end) / 1000 if end.query() else None
