"""What differs between two artifacts, or two runs, field by field."""

from dataclasses import asdict, dataclass
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from pipeline.dag.fingerprint import differences
from pipeline.dag.store import Artifact, Store
from pipeline.looking.lineage import origins
from pipeline.looking.page import grid, heading, in_words
from pipeline.looking.subject import ArtifactPart, Run
from pipeline.report import numbers

CIRCUMSTANCE = ("resources", "host", "code_commit", "versions")
"What is compared of a manifest's facts; when it was built and how long it took always differ."


@dataclass(frozen=True)
class Difference:
    section: str
    "identity, inputs, content, counters, metrics, circumstance; of runs also recipe and nodes."
    field: str
    first: Any
    second: Any
    "None where that side lacks the field."

    def row(self) -> tuple[Text, Text, Text, str]:
        return Text(f"  {self.field}"), _side(self.first), _side(self.second), self.change()

    def change(self) -> str:
        """Of two numbers, by how much the second is above the first."""
        if not all(isinstance(side, int | float) for side in (self.first, self.second)):
            return ""
        by = self.second - self.first
        share = f" ({by / abs(self.first):+.1%})" if self.first else ""
        return f"{'+' if by > 0 else ''}{numbers.metric(by)}{share}"


def between_artifacts(first: ArtifactPart, second: ArtifactPart) -> list[Difference]:
    one, two = first.artifact.manifest, second.artifact.manifest
    facts = [{name: each.facts.get(name) for name in CIRCUMSTANCE} for each in (one, two)]
    identity = [
        {name: value for name, value in each.payload.items() if name != "inputs"} for each in (one, two)
    ]
    content = [
        {"digest": each.artifact.manifest.part_digest(each.part), "files": len(each.artifact.manifest.files)}
        for each in (first, second)
    ]
    return [
        *_section("identity", *identity),
        *_section("inputs", _inputs(first.artifact), _inputs(second.artifact)),
        *_section("content", *content),
        *_section("counters", one.counters, two.counters),
        *_section("metrics", one.metrics, two.metrics),
        *_section("circumstance", *facts),
    ]


def between_runs(first: Run, second: Run, store: Store) -> list[Difference]:
    """Their recipes, and node by node the artifacts and what was measured."""
    recipes = [yaml.safe_load(each.record.get("yaml", "")) or {} for each in (first, second)]
    found = [
        *_section("run", _outcome(first), _outcome(second)),
        *_section("recipe", *recipes),
    ]
    ours, theirs = first.record["nodes"], second.record["nodes"]
    for node in [*ours, *(node for node in theirs if node not in ours)]:
        if ours.get(node) != theirs.get(node):
            found += _between_nodes(node, ours.get(node), theirs.get(node), store)
    return found


def _between_nodes(
    node: str, first: dict[str, str] | None, second: dict[str, str] | None, store: Store
) -> list[Difference]:
    places = [f"{each['stage']}/{each['key'][:12]}" if each else None for each in (first, second)]
    artifacts = [store.find(each["stage"], each["key"]) if each else None for each in (first, second)]
    found = [Difference("nodes", node, *places)]
    if all(artifacts):
        measured = [{node: each.manifest.metrics} for each in artifacts if each]
        found += _section("metrics", *measured)
    return found


def _outcome(run: Run) -> dict[str, Any]:
    return {name: run.record.get(name) for name in ("recipe", "status", "code_commit")}


def _inputs(artifact: Artifact) -> dict[str, Any]:
    """Port to what came in; two artifacts built apart with the same bytes are the same input."""
    found: dict[str, list[str]] = {}
    for each in origins(artifact):
        pinned = " (pinned)" if each.pinned else ""
        found.setdefault(each.port, []).append(f"{each.source} {each.digest[:12]}{pinned}")
    return {name: ", ".join(given) for name, given in found.items()}


def _section(name: str, first: Any, second: Any) -> list[Difference]:
    return [Difference(name, *difference) for difference in differences(first, second)]


def difference_facts(found: list[Difference]) -> list[dict[str, Any]]:
    return [asdict(each) for each in found]


def print_differences(found: list[Difference], names: tuple[str, str], console: Console) -> None:
    """One table a section."""
    if not found:
        console.print("no difference")
        return
    for section in dict.fromkeys(each.section for each in found):
        table = grid(*names_of_columns(names), right=("change",))
        for each in found:
            if each.section == section:
                table.add_row(*each.row())
        console.print(heading(section))
        console.print(table)


def names_of_columns(names: tuple[str, str]) -> tuple[str, ...]:
    first, second = (in_words(name) for name in names)
    return "  field", first, second, "change"


def _side(value: Any) -> Text:
    if value is None:
        return Text("nothing", style="dim")
    if isinstance(value, float):
        return Text(numbers.metric(value) if abs(value) >= 1 else f"{value:g}")
    return Text(in_words(value))
