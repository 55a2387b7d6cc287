"""Bars and pages for a browser: HTML that stands alone, with its drawings in it."""

from collections.abc import Sequence
from html import escape

BAR_HEIGHT, GAP, LABEL_WIDTH, BARS_WIDTH, VALUE_WIDTH = 16, 5, 190, 380, 110
COLUMN_WIDTH, COLUMNS_HEIGHT = 15, 110
COLOUR = "#3b7dd8"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #d8dee4 }
h3 { font-size: 1rem; margin-bottom: .3rem } svg text { font: 12px system-ui, sans-serif; fill: #1f2328 }
table { border-collapse: collapse } td, th { padding: .1rem 1rem .1rem 0; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums } .dim { color: #656d76 }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole HTML document; `body` is HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def heading(level: int, text: str) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and numbers, one below the other."""
    lines = (
        f'<tr><td>{escape(name)}</td><td class="number">{escape(value)}</td></tr>' for name, value in rows
    )
    return f"<table>{''.join(lines)}</table>"


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars as SVG: (label, length, what is written behind it)."""
    most = max((value for _, value, _ in rows), default=0) or 1
    height = len(rows) * (BAR_HEIGHT + GAP)
    parts = []
    for place, (label, value, text) in enumerate(rows):
        y, width = place * (BAR_HEIGHT + GAP), BARS_WIDTH * value / most
        parts.append(
            f'<text x="{LABEL_WIDTH - 8}" y="{y + 12}" text-anchor="end">{escape(_short(label))}</text>'
            f'<rect x="{LABEL_WIDTH}" y="{y}" width="{max(width, 1):.1f}" height="{BAR_HEIGHT}" fill="{COLOUR}"/>'
            f'<text x="{LABEL_WIDTH + width + 6:.1f}" y="{y + 12}">{escape(text)}</text>'
        )
    return _svg(LABEL_WIDTH + BARS_WIDTH + VALUE_WIDTH, height, parts)


def columns(counts: Sequence[tuple[str, float]], *, label_every: int = 4) -> str:
    """A histogram as SVG: (label below, height), from left to right."""
    most = max((count for _, count in counts), default=0) or 1
    parts = []
    for place, (label, count) in enumerate(counts):
        x, height = place * COLUMN_WIDTH, COLUMNS_HEIGHT * count / most
        parts.append(
            f'<rect x="{x}" y="{COLUMNS_HEIGHT - height:.1f}" width="{COLUMN_WIDTH - 2}" height="{height:.1f}" '
            f'fill="{COLOUR}"><title>{escape(label)}: {count:,.0f}</title></rect>'
        )
        if place % label_every == 0:
            parts.append(f'<text x="{x}" y="{COLUMNS_HEIGHT + 15}">{escape(label)}</text>')
    return _svg(len(counts) * COLUMN_WIDTH + 60, COLUMNS_HEIGHT + 22, parts)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" role="img">'
        f"{''.join(parts)}</svg>"
    )


def _short(label: str) -> str:
    return label if len(label) <= 28 else f"{label[:27]}…"  # noqa: PLR2004 - as much as LABEL_WIDTH holds
