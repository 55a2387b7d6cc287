"""What a person sees of a run: `open_report(stream)` shows events live in a terminal, else line by line."""

import os
import sys
from typing import Protocol, TextIO

from pipeline.dag.events import Event
from pipeline.report.quiet import Streams, quiet

__all__ = ["Report", "Streams", "open_report", "print_error", "quiet"]


class Report(Protocol):
    """Shows the events of one run, from any thread."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was; needed when the run ends without `RunFinished`."""


def open_report(stream: TextIO) -> Report:
    """A live view where `stream` is a terminal that can draw, else plain lines."""
    if stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}:
        from pipeline.report.live import LiveReport

        return LiveReport(stream)
    from pipeline.report.plain import PlainReport

    return PlainReport(stream)


def print_error(error: Exception, stream: TextIO | None = None) -> None:
    """Print an error in its four parts (what, where, allowed, do), on stderr unless told otherwise."""
    from pipeline.report.state import error_parts
    from pipeline.report.table import error_text, open_console

    open_console(stream or sys.stderr).print(error_text(error_parts(error)))
