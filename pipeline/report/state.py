"""What is known of a run so far: events in, the state of each node out. Both forms of the report read it."""

import time
from collections import deque
from dataclasses import dataclass, field

from pipeline.dag.events import (
    Event,
    NodeFailed,
    NodeFinished,
    NodeNote,
    NodeProgress,
    NodeReused,
    NodeStarted,
    RunStarted,
)
from pipeline.report import numbers

RATE_SECONDS = 30.0
"The rate is that of so much of the latest past, so that a resume or a slow start does not spoil it."
WAITING, RUNNING, BUILT, REUSED = "waiting", "running", "built", "reused"
FAILED, STOPPED = "failed", "stopped"
ENDED = (BUILT, REUSED, FAILED, STOPPED)


@dataclass
class NodeState:
    """One line of the report."""

    name: str
    stage: str
    reason: str = ""
    status: str = WAITING
    started_at: float = 0.0
    "Monotonic seconds."
    ended_at: float = 0.0
    seconds: float = 0.0
    "How long it took, once it has ended."
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    figures: str = ""
    "Key counters and metrics of what it made."
    artifact: str = ""
    parts: list[tuple[str, str]] = field(default_factory=list)
    _marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=200))

    def mark(self, event: NodeProgress, now: float) -> None:
        if event.done < self.done:  # began again, from a checkpoint or after a lost worker
            self._marks.clear()
        self.done, self.total, self.unit, self.note = event.done, event.total, event.unit, event.note
        self._marks.append((now, event.done))
        while now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()

    @property
    def per_second(self) -> float:
        """Units a second of late, or 0 when that is not known yet."""
        if not self._marks or self._marks[-1][0] <= self._marks[0][0]:
            return 0.0
        (t0, n0), (t1, n1) = self._marks[0], self._marks[-1]
        return (n1 - n0) / (t1 - t0)

    @property
    def seconds_left(self) -> float | None:
        if not self.total or self.per_second <= 0:
            return None
        return (self.total - self.done) / self.per_second

    def progress_text(self) -> str:
        """`120/500 steps · 2.10/s · 3m 01s left · loss 3.21`, as much of it as is known."""
        of_total = f"/{numbers.count(self.total)}" if self.total else ""
        left = self.seconds_left
        parts = [
            f"{numbers.count(self.done)}{of_total} {self.unit}" if self.unit else "",
            numbers.rate(self.per_second),
            "" if left is None else f"{numbers.duration(left)} left",
            self.note,
        ]
        return " · ".join(part for part in parts if part)


@dataclass
class RunState:
    """All nodes, in the plan's order."""

    nodes: dict[str, NodeState] = field(default_factory=dict)
    started: RunStarted | None = None
    begun_at: float = field(default_factory=time.monotonic)

    def take(self, event: Event) -> None:
        """Learn from an event."""
        now = time.monotonic()
        if isinstance(event, RunStarted):
            self.started = event
            self.nodes = {n.node: NodeState(n.node, n.stage, "; ".join(n.reasons)) for n in event.nodes}
            return
        node = self.nodes.get(getattr(event, "node", ""))
        if node is None:
            return
        match event:
            case NodeStarted():
                node.status, node.started_at = RUNNING, now
            case NodeProgress():
                node.mark(event, now)
            case NodeNote():
                node.note = event.text
            case NodeFinished():
                node.figures, node.artifact = key_figures(event), event.url
                self._end(node, BUILT, event.seconds)
            case NodeReused():
                node.artifact = event.url
                self._end(node, REUSED, 0.0)
            case NodeFailed():
                node.parts = [] if event.interrupted else error_parts(event.error)
                self._end(node, STOPPED if event.interrupted else FAILED, now - (node.started_at or now))
            case _:
                pass

    def _end(self, node: NodeState, status: str, seconds: float) -> None:
        node.status, node.seconds, node.ended_at = status, seconds, time.monotonic()

    def of(self, *statuses: str) -> list[NodeState]:
        return [node for node in self.nodes.values() if node.status in statuses]

    def tally(self) -> str:
        """`3 built, 2 reused, 1 running`."""
        order = (BUILT, REUSED, FAILED, STOPPED, RUNNING, WAITING)
        counts = [(len(self.of(status)), status) for status in order]
        return ", ".join(f"{number} {status}" for number, status in counts if number)


def error_parts(error: Exception) -> list[tuple[str, str]]:
    """The four parts of an error that has them; of any other, its type and words."""
    names = ("what", "where", "allowed", "do")
    if not all(isinstance(getattr(error, name, None), str) for name in names):
        return [("", f"{type(error).__name__}: {error}")]
    return [("" if name == "what" else f"{name}:", getattr(error, name)) for name in names]


FIGURES_SHOWN = 4


def key_figures(event: NodeFinished) -> str:
    """The few numbers that tell most: metrics first, and of the counters the largest."""
    metrics = [f"{name.split('/')[-1]} {numbers.metric(value)}" for name, value in event.metrics.items()]
    largest = sorted(event.counters.items(), key=lambda item: -abs(item[1]))
    counters = [_counter(name, value) for name, value in largest if value]
    shown = metrics[:FIGURES_SHOWN]
    return " · ".join(shown + counters[: FIGURES_SHOWN - len(shown)])


def _counter(name: str, value: int) -> str:
    words = name.removeprefix("num_").replace("_", " ")
    if words.endswith("bytes"):
        return f"{numbers.size(value)} {words.removesuffix('bytes')}".strip()
    return f"{numbers.count(value)} {words}"
