"""A data report on the terminal."""

from typing import Any

from rich.console import Console

from pipeline.dag.store import Artifact
from pipeline.looking.lineage import origins
from pipeline.looking.page import fields, grid, heading, visible
from pipeline.report import numbers
from pipeline.stages.data_report import FACTS, PAGE


def data_report_facts(artifact: Artifact) -> dict[str, Any]:
    """Per artifact what `data_report` counted, and where its page lies."""
    facts: dict[str, Any] = artifact.folder.read_json(FACTS)
    described = [
        {"name": origin.source} | each
        for origin, each in zip(origins(artifact), facts["artifacts"], strict=True)
    ]
    return {"page": artifact.folder.at(PAGE), "artifacts": described}


def print_data_report(facts: dict[str, Any], console: Console) -> None:
    for each in facts["artifacts"]:
        console.print(heading(f"{each['name']}: {each['rows']:,} rows, {each['length']:,} {each['unit']}"))
        quantiles = {f"{name} of {each['unit']}": f"{value:,}" for name, value in each["quantiles"].items()}
        console.print(fields(quantiles | {name: f"{value:,}" for name, value in each["counters"].items()}))
        table = grid("  source", each["unit"], right=(each["unit"],))
        for name, length in sorted(each["sources"], key=lambda pair: -pair[1])[:8]:
            table.add_row(f"  {visible(name)}", numbers.count(length))
        console.print(table)
    console.print(fields({"page": facts["page"]}))
