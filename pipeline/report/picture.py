"""The DAG as an SVG picture: layers from left to right, one box for a node, coloured by how it fared.

The layout is Sugiyama's in its plainest form: layers by longest path, order within a layer by the mean of the
neighbours (barycentre), then heights pulled towards the neighbours as far as the order allows. An edge over several
layers passes through a bend in each, so that it never runs behind a box.
"""

from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

BOX_HEIGHT, ROW_GAP, COLUMN_GAP, MARGIN = 46.0, 18.0, 40.0, 16.0
BEND_HEIGHT = 8.0
CHARACTER_WIDTH = 7.6
SMALLEST_WIDTH = 84.0
SWEEPS = 8

FILL_AND_STROKE = {
    "built": ("#e3f4e7", "#2f9e44"),
    "reused": ("#e7f0fb", "#3b7dd8"),
    "running": ("#fff3d6", "#e8930c"),
    "run": ("#fff3d6", "#e8930c"),
    "failed": ("#fde4e4", "#d6336c"),
}
OTHER = ("#f3f4f6", "#9aa1ab")
MARKS = {"built": "✓", "reused": "=", "failed": "✗", "running": "▸", "run": "▸"}


@dataclass(eq=False)
class Place:
    """A box, or the bend of a long edge, in one layer."""

    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    "Middle of its height."
    before: list["Place"] = field(default_factory=list)
    after: list["Place"] = field(default_factory=list)


def graph_svg(nodes: list[tuple[str, str, str]], edges: list[tuple[str, str]]) -> str:
    """The picture of a DAG.

    Args:
        nodes: (name, stage, status); built, reused, run or running, and failed have a colour, any other status is grey.
        edges: (name, name) of input and user; the graph has no cycle.

    Returns:
        A whole SVG document.
    """
    boxes = {
        name: Place(
            max(SMALLEST_WIDTH, CHARACTER_WIDTH * max(len(name), len(stage) + len(status)) + 34), BOX_HEIGHT
        )
        for name, stage, status in nodes
    }
    columns, paths = _layers(boxes, edges)
    _order(columns)
    _set_x(columns)
    _set_y(columns)
    width = max((p.x + p.width for c in columns for p in c), default=0) + MARGIN
    height = max((p.y + p.height / 2 for c in columns for p in c), default=0) + MARGIN
    body = [_edge(path) for path in paths] + [_box(boxes[name], name, stage, s) for name, stage, s in nodes]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Inter, Segoe UI, Helvetica, Arial, sans-serif">\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _layers(
    boxes: dict[str, Place], edges: list[tuple[str, str]]
) -> tuple[list[list[Place]], list[list[Place]]]:
    """Columns of places, and for each edge the places it passes."""
    depth = _depths(list(boxes), edges)
    columns: list[list[Place]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, box in boxes.items():
        columns[depth[name]].append(box)
    paths = []
    for source, target in edges:
        bends = []
        for layer in range(depth[source] + 1, depth[target]):
            bends.append(Place(0.0, BEND_HEIGHT))
            columns[layer].append(bends[-1])
        paths.append([boxes[source], *bends, boxes[target]])
        for before, after in pairwise(paths[-1]):
            before.after.append(after)
            after.before.append(before)
    return columns, paths


def _depths(names: list[str], edges: list[tuple[str, str]]) -> dict[str, int]:
    depth = dict.fromkeys(names, 0)
    for _ in names:  # at most once for each layer
        moved = False
        for source, target in edges:
            if depth[target] <= depth[source]:
                depth[target], moved = depth[source] + 1, True
        if not moved:
            break
    for source in names:  # what needs nothing stands beside its first user
        users = [depth[user] for name, user in edges if name == source]
        if users and not any(user == source for _, user in edges):
            depth[source] = min(users) - 1
    return depth


def _order(columns: list[list[Place]]) -> None:
    for sweep in range(SWEEPS):
        forwards = sweep % 2 == 0
        for column in columns if forwards else reversed(columns):
            rank = {id(place): i for each in columns for i, place in enumerate(each)}
            means = {
                id(place): _mean(
                    [rank[id(n)] for n in (place.before if forwards else place.after)], rank[id(place)]
                )
                for place in column
            }
            column.sort(key=lambda place: means[id(place)])


def _set_x(columns: list[list[Place]]) -> None:
    x = MARGIN
    for column in columns:
        width = max(place.width for place in column)
        for place in column:
            place.x = x
            place.width = width  # boxes of a column are equally wide, and edges pass straight through it
        x += width + COLUMN_GAP


def _set_y(columns: list[list[Place]]) -> None:
    for column in columns:
        _spread(column, [0.0] * len(column))
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            _spread(column, [_mean([n.y for n in p.before + p.after], p.y) for p in column])
    top = min((p.y - p.height / 2 for c in columns for p in c), default=0.0)
    for place in (place for column in columns for place in column):
        place.y += MARGIN - top


def _spread(column: list[Place], wanted: list[float]) -> None:
    """Bring a column as near to the heights wanted as its order and the gaps allow."""
    floor = float("-inf")
    for place, y in zip(column, wanted, strict=True):
        place.y = max(y, floor + place.height / 2)
        floor = place.y + place.height / 2 + ROW_GAP
    shift = _mean([y - place.y for place, y in zip(column, wanted, strict=True)], 0.0)
    for place in column:
        place.y += shift


def _mean(values: list[float] | list[int], default: float) -> float:
    return sum(values) / len(values) if values else default


def _edge(path: list[Place]) -> str:
    start = path[0]
    line = [f"M{start.x + start.width:.1f},{start.y:.1f}"]
    for before, after in pairwise(path):
        x0, x1 = before.x + before.width, after.x - (6 if after is path[-1] else 0)
        middle = (x0 + x1) / 2
        line.append(f"C{middle:.1f},{before.y:.1f} {middle:.1f},{after.y:.1f} {x1:.1f},{after.y:.1f}")
        if after is not path[-1]:
            line.append(f"H{after.x + after.width:.1f}")
    x, y = path[-1].x, path[-1].y
    head = f'<path d="M{x:.1f},{y:.1f} l-7,-4 v8 z" fill="#9aa1ab"/>'
    return f'<path d="{" ".join(line)}" fill="none" stroke="#b4bac3" stroke-width="1.5"/>{head}'


def _box(box: Place, name: str, stage: str, status: str) -> str:
    fill, stroke = FILL_AND_STROKE.get(status, OTHER)
    left, top = box.x, box.y - box.height / 2
    return (
        f"<g><title>{escape(f'{name}: {stage}, {status}')}</title>"
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="8" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'
        f'<text x="{left + 12:.1f}" y="{top + 20:.1f}" font-size="13" font-weight="600" fill="#1f2430">'
        f"{escape(name)}</text>"
        f'<text x="{left + 12:.1f}" y="{top + 36:.1f}" font-size="11" fill="#6b7280">{escape(stage)}</text>'
        f'<text x="{left + box.width - 12:.1f}" y="{top + 20:.1f}" font-size="13" text-anchor="end" '
        f'font-weight="700" fill="{stroke}">{MARKS.get(status, "")}</text></g>'
    )
