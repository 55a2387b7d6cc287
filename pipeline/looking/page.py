"""What every sheet is made of: headings, fields, shortened lists, and text that cannot touch the terminal."""

import io
import json
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.report.table import open_console

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MOST_NAMES = 8
HTML_WIDTH = 120
PICTURES = 0x2400
"Where Unicode has its pictures of the control characters."


def standard_console() -> Console:
    return open_console(sys.stdout)


def recording_console() -> Console:
    """A console that shows nothing and remembers all, for `export_html`."""
    return Console(record=True, file=io.StringIO(), width=HTML_WIDTH, highlight=False)


def print_json(facts: object) -> None:
    sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False, default=str) + "\n")


def print_json_line(facts: object) -> None:
    sys.stdout.write(json.dumps(facts, ensure_ascii=False, default=str) + "\n")


def visible(text: str) -> str:
    """Control characters as pictures of themselves: a corpus must not steer the terminal."""
    return _CONTROL.sub(_picture, text)


def heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def fields(values: Mapping[str, Any]) -> Table:
    """Names and values, one below the other."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(Text(f"  {name}"), value if isinstance(value, Text) else Text(in_words(value)))
    return table


def grid(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines; the columns named in `right` hold numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in right else "left")
    return table


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names, as overrides spell them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def in_words(value: Any) -> str:
    """A value as a person types it in an override; text as it is."""
    return visible(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def named(names: Iterable[str], *, most: int = MOST_NAMES) -> str:
    """`a, b, c and 12 more`."""
    names = list(names)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def shortened(text: str, most: int) -> str:
    """The beginning of a text, and how much of it is left out; the whole of it when `most` is 0."""
    left_out = len(text) - most
    return text if most == 0 or left_out <= 0 else f"{text[:most]}… and {left_out:,} more characters"


def instant(seconds: float | None) -> str:
    """A Unix time in words."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds else ""


def _picture(found: "re.Match[str]") -> str:
    character = found.group()
    return chr(PICTURES + ord(character)) if character < " " else f"\\x{ord(character):02x}"
