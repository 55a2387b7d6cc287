"""The report in a terminal: the DAG's nodes in order, each with its state, rate and time left."""

import threading
import time
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.dag.events import Event, NodeFailed, NodeNote, RunFinished, RunStarted
from pipeline.report import numbers
from pipeline.report.state import ENDED, RUNNING, WAITING, NodeState, RunState, error_parts
from pipeline.report.table import STYLES, SYMBOLS, closing, error_text, open_console

REFRESH_PER_SECOND = 4
FRAME_LINES = 3
"Lines that are no node: the heading, the line of what is left out, and the cursor's."
BAR_WIDTH = 10
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class LiveReport:
    """Draws the state of the run in place. Safe to call from several threads."""

    def __init__(self, stream: TextIO, *, console: Console | None = None) -> None:
        self._console = console or open_console(stream)
        self._state = RunState()
        self._lock = threading.Lock()
        self._live = Live(
            console=self._console,
            get_renderable=self.render,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show(self, event: Event) -> None:
        with self._lock:
            self._state.take(event)
        match event:
            case RunStarted():
                self._live.start()
            case NodeFailed(interrupted=False):
                self._console.print(error_text(error_parts(event.error), node=event.node))
            case NodeNote(node=""):
                self._console.print(Text(event.text))
            case RunFinished():
                self._live.stop()
                self._console.print(closing(self._state, event))
            case _:
                pass

    def close(self) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """The picture of this instant; never higher than the terminal."""
        with self._lock:
            height = max(self._console.size.height - FRAME_LINES, 3)
            shown = choose(list(self._state.nodes.values()), height)
            rows = Table.grid(padding=(0, 1), expand=True)
            rows.add_column(width=1)
            rows.add_column(
                max_width=max(16, self._console.size.width // 4), no_wrap=True, overflow="ellipsis"
            )
            rows.add_column(width=BAR_WIDTH)
            rows.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
            rows.add_column(justify="right", no_wrap=True)
            for node in shown:
                rows.add_row(*_row(node))
            left_out = len(self._state.nodes) - len(shown)
            tail = [Text(f"… and {left_out} more nodes", style="dim")] if left_out else []
            return Group(self._heading(), rows, *tail)

    def _heading(self) -> Text:
        name = self._state.started.recipe if self._state.started else ""
        elapsed = numbers.duration(time.monotonic() - self._state.begun_at)
        return Text.assemble((f"{name or 'headrace'}  ", "bold"), f"{elapsed}  {self._state.tally()}")


def choose(nodes: list[NodeState], height: int) -> list[NodeState]:
    """The nodes that matter most now, at most `height`, in the plan's order.

    Those running come first, then those that ended last, up to half of what is left, then those next to start.
    """
    if len(nodes) <= height:
        return nodes
    running = [node for node in nodes if node.status == RUNNING][:height]
    ended = sorted((node for node in nodes if node.status in ENDED), key=lambda node: -node.ended_at)
    waiting = [node for node in nodes if node.status == WAITING]
    room = height - len(running)
    num_ended = max(room // 2, room - len(waiting))
    chosen = {node.name for node in running + ended[:num_ended]}
    chosen |= {node.name for node in waiting[: height - len(chosen)]}
    return [node for node in nodes if node.name in chosen]


def _row(node: NodeState) -> tuple[RenderableType, ...]:
    now = time.monotonic()
    style = STYLES[node.status]
    if node.status == RUNNING:
        turn = SPINNER[int(now * REFRESH_PER_SECOND) % len(SPINNER)]
        bar: RenderableType = ""
        if node.total:
            bar = ProgressBar(total=node.total, completed=node.done, width=BAR_WIDTH, complete_style="yellow")
        text = node.progress_text() or node.note or "starting"
        return (
            Text(turn, style),
            Text(node.name, style),
            bar,
            Text(text),
            numbers.duration(now - node.started_at),
        )
    if node.status == WAITING:
        return (
            Text(SYMBOLS[WAITING], style),
            Text(node.name, style),
            Text(WAITING, style),
            Text(node.reason, style),
            "",
        )
    what = node.parts[0][1] if node.parts else node.figures
    took = numbers.duration(node.seconds) if node.seconds else ""
    return (
        Text(SYMBOLS[node.status], style),
        Text(node.name),
        Text(node.status, style),
        Text(what, "dim"),
        took,
    )
