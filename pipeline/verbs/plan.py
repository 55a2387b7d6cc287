"""`headrace plan`: what would run, what is reused, and why; tokens, time, GiB per rank. It runs nothing but a probe."""

import argparse
import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.dag.events import Status
from pipeline.dag.forecast import forecast
from pipeline.dag.foresight import Foresight
from pipeline.dag.plan import NodePlan, Plan
from pipeline.report import numbers
from pipeline.verbs.probing import probe_nodes
from pipeline.verbs.session import (
    Session,
    add_json_argument,
    add_pin_argument,
    add_recipe_arguments,
    open_session,
)

SMALLEST_SHOWN_GIB = 0.01
COLOURS = {Status.REUSE: "green", Status.PINNED: "cyan", Status.RUN: "yellow", Status.WAIT: "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    add_pin_argument(parser)
    add_json_argument(parser)
    parser.add_argument(
        "--probe",
        action="store_true",
        help="first make a few steps of the named training nodes, with random tokens, to know their time and memory",
    )


def main(arguments: argparse.Namespace) -> int:
    session = open_session(arguments)
    plan = session.planner.plan(arguments.nodes)
    if arguments.probe:
        probe_nodes(session, plan, arguments.nodes)
    seconds = forecast(session.planner, plan, session.config.resources_of)
    rows = [_facts(session, plan, each, seconds.get(each.node)) for each in plan.nodes]
    if arguments.json:
        sys.stdout.write(json.dumps({"recipe": session.recipe, "nodes": rows}, indent=2) + "\n")
    else:
        _print(session, plan, rows)
    return 0


def _facts(session: Session, plan: Plan, each: NodePlan, seconds: float | None) -> dict[str, Any]:
    resources = session.config.resources_of(each.node)
    known = session.planner.known_inputs(each.node, plan)
    needed = each.status in (Status.RUN, Status.WAIT)
    stage, measured = session.graph.stages[each.node], session.store.measured
    sources = session.planner.sources(each.node, plan)
    foresight = (
        stage.foresee(known, resources, measured=measured, sources=sources) if needed else Foresight({})
    )
    return {
        "node": each.node,
        "stage": each.stage,
        "status": each.status.value,
        "key": each.key or None,
        "reasons": each.reasons,
        "estimate": foresight.figures,
        "remarks": foresight.remarks,
        "seconds": seconds if foresight.seconds is None else foresight.seconds,
    }


def _print(session: Session, plan: Plan, rows: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("node", "stage", "", "why", "what it takes"):
        table.add_column(name, overflow="fold")
    for each, row in zip(plan.nodes, rows, strict=True):
        status = Text(each.status.value, style=COLOURS[each.status])
        reasons = "; ".join(each.reasons) or each.key[:12]
        table.add_row(each.node, each.stage, status, Text(reasons), Text(_takes(row)))
    console.print(table)
    for row in rows:
        if "parameters" in row["estimate"]:
            console.print(Text(f"\n{_training(row)}"))
        for remark in row["remarks"]:
            console.print(Text(f"  {remark}", style="dim"))
    counts = {status: sum(each.status is status for each in plan.nodes) for status in Status}
    reused = counts[Status.REUSE] + counts[Status.PINNED]
    ahead = f"{counts[Status.RUN]} to run, {counts[Status.WAIT]} after them, {reused} reused"
    console.print(f"\n{session.recipe}: {ahead}{_in_all(rows)}; store {session.store.url}", soft_wrap=True)


def _takes(row: dict[str, Any]) -> str:
    """The estimate in a few words."""
    estimate = row["estimate"]
    words = [
        f"{numbers.count(estimate[name])} {name}" for name in ("files", "tokens", "steps") if name in estimate
    ]
    if "bytes" in estimate:
        words.append(numbers.size(estimate["bytes"]))
    if row["seconds"] is not None:
        words.append(f"about {numbers.duration(row['seconds'])}")
    return ", ".join(words)


def _in_all(rows: list[dict[str, Any]]) -> str:
    """The time of all nodes one after the other, as far as the store has seen their like."""
    ahead = [row for row in rows if row["status"] in (Status.RUN.value, Status.WAIT.value)]
    known = [row["seconds"] for row in ahead if row["seconds"] is not None]
    if not known:
        return ""
    unknown = len(ahead) - len(known)
    return f", about {numbers.duration(sum(known))}" + (
        f" and {unknown} of unknown length" if unknown else ""
    )


def _training(row: dict[str, Any]) -> str:
    """What a training node asks of a rank, and of all ranks together."""
    estimate = row["estimate"]
    parts = {
        name[4:]: size for name, size in estimate.items() if name.startswith("GiB ") and name != "GiB total"
    }
    shown = ", ".join(f"{name} {size:.2g}" for name, size in parts.items() if size >= SMALLEST_SHOWN_GIB)
    work = [
        f"{numbers.count(estimate[name])} {name}" for name in ("parameters", "tokens") if name in estimate
    ]
    if "flops" in estimate:
        work.append(f"{estimate['flops']:.2e} FLOPs")
    host = estimate.get("host GiB", 0.0)
    disk = estimate.get("disk GiB", 0.0)
    held = f"{estimate['GiB total'] - host - disk:.2g} GiB per rank"
    held += f" and {host:.2g} on its host" if host >= SMALLEST_SHOWN_GIB else ""
    held += f" and {disk:.2g} in its offload_folder" if disk >= SMALLEST_SHOWN_GIB else ""
    return f"{row['node']}: {', '.join(work)}; {held} ({shown})"
