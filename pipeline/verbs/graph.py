"""`headrace graph`: the DAG as Mermaid text, or as a picture."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.dag.graph import Graph
from pipeline.errors import ConfigError
from pipeline.report.picture import graph_svg
from pipeline.verbs.session import add_json_argument, add_recipe_arguments, open_session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser, words="OVERRIDE")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="write a picture instead")
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    session = open_session(arguments)
    if arguments.svg:
        statuses = {each.node: each.status.value for each in session.planner.plan().nodes}
        _write(arguments.svg, picture(session.graph, statuses))
        sys.stdout.write(f"{arguments.svg}\n")
    elif arguments.json:
        nodes = {node: stage.name for node, stage in session.graph.stages.items()}
        sys.stdout.write(json.dumps({"nodes": nodes, "edges": edges(session.graph)}, indent=2) + "\n")
    else:
        sys.stdout.write(mermaid(session.graph))
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the picture cannot be written: {error.strerror or error}",
            where=f"--svg {path}",
            allowed="a file in a folder that exists and that this user may write to",
            do="choose another place",
        ) from error


def edges(graph: Graph) -> list[tuple[str, str]]:
    """(from, to) for each pair of nodes, in topological order."""
    return [(parent, node) for node in graph.order for parent in graph.parents(node)]


def mermaid(graph: Graph) -> str:
    """The DAG in Mermaid's flowchart language."""
    lines = ["flowchart LR"]
    lines += [f"    {node}[{node}<br><i>{graph.stages[node].name}</i>]" for node in graph.order]
    lines += [f"    {parent} --> {node}" for parent, node in edges(graph)]
    return "\n".join(lines) + "\n"


def picture(graph: Graph, statuses: Mapping[str, str]) -> str:
    """The DAG as SVG, coloured by what is known of each node."""
    shown = {"reuse": "reused", "pinned": "reused"}
    found = {node: statuses.get(node, "") for node in graph.order}
    nodes = [(node, graph.stages[node].name, shown.get(status, status)) for node, status in found.items()]
    return graph_svg(nodes, edges(graph))
