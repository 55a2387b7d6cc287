"""The DAG's picture: well-formed, complete, nothing on top of anything else."""

from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.picture import graph_svg

SVG = "{http://www.w3.org/2000/svg}"


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    """Name to left, top, right, bottom."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        left, top, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        found[group.find(f"{SVG}text").text] = (left, top, left + width, top + height)
    return found


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 14))
    pairs = [(f"n{a}", f"n{b}") for a, b in combinations(range(size), 2)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return [(f"n{i}", "stage", "built") for i in range(size)], edges


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_edges_go_right_and_boxes_never_overlap(graph):
    nodes, edges = graph
    svg = graph_svg(nodes, edges)
    placed = boxes(svg)
    assert set(placed) == {name for name, _, _ in nodes}
    for source, target in edges:
        assert placed[source][2] < placed[target][0]
    for (l0, t0, r0, b0), (l1, t1, r1, b1) in combinations(placed.values(), 2):
        assert r0 <= l1 or r1 <= l0 or b0 <= t1 or b1 <= t0
    width, height = (float(ET.fromstring(svg).get(key)) for key in ("width", "height"))
    assert all(
        left >= 0 and top >= 0 and right <= width and bottom <= height
        for left, top, right, bottom in placed.values()
    )


def test_names_are_escaped_and_statuses_have_colours():
    svg = graph_svg([("a<b", "s&t", "failed"), ("c", "s", "built")], [("a<b", "c")])
    assert set(boxes(svg)) == {"a<b", "c"}
    fills = {rect.get("fill") for rect in ET.fromstring(svg).iter(f"{SVG}rect")}
    assert len(fills) == 3


@pytest.mark.parametrize("nodes", [[], [("one", "clean", "waiting")]])
def test_small_graphs_have_a_picture_too(nodes):
    assert len(boxes(graph_svg(nodes, []))) == len(nodes)
