"""The end of a run on the terminal: what became of each node, and where to look."""

import os
from typing import TextIO

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.dag.events import RunFinished
from pipeline.report import numbers
from pipeline.report.state import BUILT, FAILED, REUSED, RUNNING, STOPPED, WAITING, NodeState, RunState

STYLES = {
    BUILT: "green",
    REUSED: "blue",
    FAILED: "bold red",
    STOPPED: "magenta",
    RUNNING: "yellow",
    WAITING: "dim",
}
SYMBOLS = {BUILT: "✓", REUSED: "=", FAILED: "✗", STOPPED: "■", RUNNING: "▸", WAITING: "·"}
PLAIN_WIDTH = 110
MANY_NODES = 40
"From so many nodes on, those reused are only counted."


class StreamConsole(Console):
    """A console as large as the terminal behind its own stream, whatever descriptors 0 to 2 are at present."""

    @property  # type: ignore[misc]  # its setter is never used here
    def size(self) -> ConsoleDimensions:
        try:
            measured = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return ConsoleDimensions(PLAIN_WIDTH, 40)
        # A pseudo-terminal that nobody sized says 0 by 0.
        return ConsoleDimensions(measured.columns or 80, measured.lines or 24)


def open_console(stream: TextIO) -> Console:
    return StreamConsole(file=stream, highlight=False, emoji=False, markup=False, soft_wrap=False)


def closing(state: RunState, event: RunFinished) -> RenderableType:
    """The closing table, and the places to look."""
    return Group(Text(), _table(state), Padding(_places(state, event), (1, 0, 0, 0)))


def error_text(parts: list[tuple[str, str]], *, node: str = "") -> Text:
    """An error in its four parts, one below the other."""
    text = Text(overflow="fold")
    for label, words in parts:
        if words and not label:
            text.append(f"error in {node}: " if node else "error: ", style="bold red")
            text.append(f"{words}\n", style="bold")
        elif words:
            text.append(f"  {label:<9}", style="dim")
            text.append(words.replace("\n", "\n" + " " * 11) + "\n")
    text.rstrip()
    return text


def _table(state: RunState) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=False)
    table.add_column("node", overflow="ellipsis", max_width=32, no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("key figures", overflow="fold")
    many = len(state.nodes) > MANY_NODES
    for node in state.nodes.values():
        if not (many and node.status == REUSED):
            table.add_row(*_row(node))
    if many and state.of(REUSED):
        table.add_row(f"{len(state.of(REUSED))} more", Text(REUSED, style=STYLES[REUSED]), "", "")
    return table


def _row(node: NodeState) -> tuple[RenderableType, ...]:
    status = {RUNNING: STOPPED, WAITING: "not started"}.get(node.status, node.status)
    mark = Text(f"{SYMBOLS[node.status]} {status}", style=STYLES[node.status])
    figures = node.parts[0][1] if node.parts else node.figures or node.progress_text()
    return Text(node.name), mark, numbers.duration(node.seconds) if node.seconds else "", Text(figures)


OUTCOMES = {
    "FINISHED": ("done", "bold green"),
    "FAILED": ("failed", "bold red"),
    "KILLED": ("interrupted", "bold yellow"),
}


def _places(state: RunState, event: RunFinished) -> Text:
    words, style = OUTCOMES[event.status]
    text = Text.assemble((words, style), f" in {numbers.duration(event.seconds)}: {state.tally()}")
    places = (
        {} if event.status == "FINISHED" else {"next": "the same command continues where this one stopped"}
    )
    if state.started is not None:
        places |= {"store": state.started.store, "log": state.started.log_path, "metrics": "headrace ui"}
    for name, place in places.items():
        if place:  # a run that starts nothing has no log
            text.append(f"\n  {name:<9}", style="dim")
            text.append(place)
    return text
