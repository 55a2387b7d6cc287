"""The report where the output is no terminal: one line at a time, none of them too often, and never silence."""

import threading
import time
from typing import TextIO

from rich.console import RenderableType

from pipeline.dag.events import (
    Event,
    NodeFailed,
    NodeFinished,
    NodeMetrics,
    NodeNote,
    NodeProgress,
    NodeReused,
    NodeStarted,
    RunFinished,
    RunStarted,
    Status,
)
from pipeline.report import numbers
from pipeline.report.state import REUSED, RUNNING, NodeState, RunState, error_parts
from pipeline.report.table import closing, error_text, open_console

NAME_WIDTH = 24
NAMES_SHOWN = 12
REUSABLE = (Status.REUSE, Status.PINNED)


class PlainReport:
    """Writes a line for each start and end, and progress now and then. Safe to call from several threads."""

    def __init__(
        self, stream: TextIO, *, progress_seconds: float = 5.0, silence_seconds: float = 9.0
    ) -> None:
        """Begin.

        Args:
            stream: where the lines go.
            progress_seconds: the least time between two progress lines of one node.
            silence_seconds: after so long without a line, one says what the run waits for.
        """
        self._console = open_console(stream)
        self._stream = stream
        self._progress_seconds, self._silence_seconds = progress_seconds, silence_seconds
        self._state = RunState()
        self._lock = threading.Lock()
        self._last_line_at = time.monotonic()
        self._last_progress_at: dict[str, float] = {}
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="report", daemon=True)
        self._heart.start()

    def show(self, event: Event) -> None:
        with self._lock:
            self._state.take(event)
            self._write(event)

    def close(self) -> None:
        self._closed.set()
        self._heart.join()

    def _write(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._begin(event)
            case RunFinished():
                self._block(closing(self._state, event))
            case NodeProgress():
                self._progress(event.node)
            case NodeMetrics():
                pass
            case NodeReused() if self._was_to_be_reused(event.node):
                pass  # named in the opening lines
            case _:
                self._line(event.node or "run", self._words(event))
        if isinstance(event, NodeFailed) and not event.interrupted:
            self._block(error_text(error_parts(event.error), node=event.node))
        self._stream.flush()

    def _words(self, event: Event) -> str:
        match event:
            case NodeStarted():
                why = self._state.nodes[event.node].reason
                return f"started {event.stage}" + (f" ({why})" if why else "")
            case NodeFinished():
                figures = self._state.nodes[event.node].figures
                return " · ".join(filter(None, [f"built in {numbers.duration(event.seconds)}", figures]))
            case NodeReused():
                return "reused: its inputs came out the same"
            case NodeFailed():
                node = self._state.nodes[event.node]
                return f"{node.status} after {numbers.duration(node.seconds)}"
            case NodeNote():
                return event.text
        raise AssertionError(event)

    def _begin(self, event: RunStarted) -> None:
        reused = [node.node for node in event.nodes if node.status in REUSABLE]
        name = f"{event.recipe}: " if event.recipe else ""
        self._text(
            f"{name}{len(event.nodes)} nodes, {len(event.nodes) - len(reused)} to run, {len(reused)} reused"
        )
        if reused:
            more = f" and {len(reused) - NAMES_SHOWN} more" if len(reused) > NAMES_SHOWN else ""
            self._text(f"{REUSED}: {', '.join(reused[:NAMES_SHOWN])}{more}")
        log = f"  log: {event.log_path}" if event.log_path else ""  # a run that starts nothing has none
        self._text(f"store: {event.store}{log}")

    def _was_to_be_reused(self, name: str) -> bool:
        planned = self._state.started.nodes if self._state.started else []
        return any(node.node == name and node.status in REUSABLE for node in planned)

    def _progress(self, name: str) -> None:
        node = self._state.nodes.get(name)
        last = self._last_progress_at.get(name, float("-inf"))
        if node is not None and time.monotonic() - last >= self._progress_seconds:
            self._progress_line(node)

    def _progress_line(self, node: NodeState) -> None:
        self._last_progress_at[node.name] = time.monotonic()
        self._line(node.name, node.progress_text() or "running")

    def _line(self, name: str, text: str) -> None:
        elapsed = numbers.duration(time.monotonic() - self._state.begun_at)
        self._text(f"{elapsed:>8}  {name:<{NAME_WIDTH}}  {text}")

    def _text(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._last_line_at = time.monotonic()

    def _block(self, content: RenderableType) -> None:
        """Several lines at once, without the blanks that fill a table's rows."""
        with self._console.capture() as drawn:
            self._console.print(content)
        self._text("\n".join(line.rstrip() for line in drawn.get().splitlines()))

    def _beat(self) -> None:
        while not self._closed.wait(min(1.0, self._silence_seconds / 4)):
            with self._lock:
                if time.monotonic() - self._last_line_at >= self._silence_seconds:
                    self._heartbeat()

    def _heartbeat(self) -> None:
        running = self._state.of(RUNNING)
        if not running:
            self._line("run", "waiting to start" if not self._state.nodes else self._state.tally())
        elif len(running) == 1:
            since = numbers.duration(time.monotonic() - running[0].started_at)
            text = running[0].progress_text() or "no progress reported yet"
            self._line(running[0].name, f"running for {since} · {text}")
        else:
            names = ", ".join(node.name for node in running[:NAMES_SHOWN])
            self._line("run", f"waiting for {names}")
        self._stream.flush()
