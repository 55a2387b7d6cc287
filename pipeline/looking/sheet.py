"""The sheets of `headrace show`: all that is known of an artifact or of a run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from pipeline.dag.store import Artifact, Manifest, Store
from pipeline.looking.lineage import Ancestor, Origin, ancestry, external_files, lineage_facts, origins
from pipeline.looking.page import fields, flat, grid, heading, in_words, instant, named, visible
from pipeline.looking.subject import ArtifactPart, Run
from pipeline.report import numbers

FILES_SHOWN = 12
FIGURES_SHOWN = 4


def artifact_facts(subject: ArtifactPart, store: Store) -> dict[str, Any]:
    """The manifest, where it lies, and the way back to the files from outside."""
    artifact = subject.artifact
    facts = artifact.manifest.to_json() | {"url": artifact.folder.url, "parts": artifact.manifest.parts()}
    if subject.part:
        facts |= {"part": subject.part, "part_digest": artifact.manifest.part_digest(subject.part)}
    return facts | {"lineage": lineage_facts(ancestry(artifact, store))}


def print_artifact(subject: ArtifactPart, store: Store, console: Console) -> None:
    artifact, manifest = subject.artifact, subject.artifact.manifest
    console.print(Text(manifest.node, style="bold").append(f"  {manifest.kind}", style="not bold"))
    console.print(fields(_head(artifact, subject.part)))
    _print_config(manifest, console)
    if above := origins(artifact):
        console.print(heading("inputs"))
        console.print(fields(_inputs(above)))
    if manifest.counters:
        console.print(heading("counters"))
        console.print(fields({name: f"{count:,}" for name, count in manifest.counters.items()}))
    if manifest.metrics:
        console.print(heading("metrics"))
        console.print(fields({name: numbers.metric(value) for name, value in manifest.metrics.items()}))
    _print_files(manifest, subject.part, console)
    console.print(heading("made from"))
    console.print(_tree(artifact, ancestry(artifact, store)))


def _head(artifact: Artifact, part: str) -> dict[str, Any]:
    manifest = artifact.manifest
    facts = manifest.facts
    seconds = facts.get("seconds")
    took = f" in {numbers.duration(seconds)}" if seconds is not None else ""
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    return _given(
        {
            "fingerprint": f"{manifest.stage}/{manifest.key}",
            "digest": manifest.part_digest(part),
            "part": part,
            "parts": ", ".join(manifest.parts()) if not part else "",
            "folder": artifact.folder.url,
            "built": f"{instant(facts.get('started_at'))}{took} on {facts.get('host', 'an unknown host')}",
            "run": facts.get("run_id", ""),
            "resources": ", ".join(f"{name}={value}" for name, value in facts.get("resources", {}).items()),
            "code": facts.get("code_commit", ""),
            "versions": versions,
        }
    )


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ("", None)}


def _print_config(manifest: Manifest, console: Console) -> None:
    config = flat(manifest.payload.get("config", {}))
    console.print(heading(f"config of {manifest.stage}, version {manifest.payload.get('version', '?')}"))
    console.print(fields({name: value for name, value in config.items() if value is not None}))
    if empty := [name for name, value in config.items() if value is None]:
        console.print(Text(f"  null: {', '.join(empty)}", style="dim"))


def _inputs(above: Sequence[Origin]) -> dict[str, Text]:
    """What is at each port, one below the other where a port takes several."""
    found: dict[str, list[Text]] = {}
    for each in above:
        found.setdefault(each.port, []).append(_origin(each))
    return {port: Text("\n").join(given) for port, given in found.items()}


def _origin(origin: Origin) -> Text:
    text = Text(origin.source).append(f"  {origin.stage}/{origin.key[:12]}", style="dim")
    return text.append("  pinned", style="cyan") if origin.pinned else text


def _print_files(manifest: Manifest, part: str, console: Console) -> None:
    files = [file for file in manifest.files if not part or file.name.startswith(f"{part}/")]
    total = numbers.size(sum(file.size for file in files))
    console.print(heading(f"files ({len(files):,}, {total})"))
    console.print(fields({visible(file.name): numbers.size(file.size) for file in files[:FILES_SHOWN]}))
    if len(files) > FILES_SHOWN:
        console.print(Text(f"  and {len(files) - FILES_SHOWN:,} more", style="dim"))


def _tree(artifact: Artifact, family: dict[tuple[str, str], Ancestor]) -> Tree:
    """Every ancestor once with all above it, and after that by its name alone."""
    manifest = artifact.manifest
    tree = Tree(f"{manifest.node}  {manifest.stage}/{manifest.key[:12]}", guide_style="dim")
    told = {(manifest.stage, manifest.key)}

    def grow(branch: Tree, ancestor: Ancestor) -> None:
        for origin in ancestor.origins:
            place = (origin.stage, origin.key)
            parent = family[place]
            label = Text(f"{origin.port}: ", style="dim").append_text(_origin(origin))
            if parent.artifact is None:
                branch.add(label.append("  gone from the store", style="yellow"))
            elif place in told and parent.origins:
                branch.add(label.append("  as above", style="dim"))
            else:
                told.add(place)
                grow(branch.add(label), parent)
        if ancestor.artifact and not ancestor.origins:
            _add_files(branch, ancestor.artifact)

    grow(tree, family[manifest.stage, manifest.key])
    return tree


def _add_files(branch: Tree, artifact: Artifact) -> None:
    digest = artifact.manifest.payload.get("files")
    if not digest:
        return
    files = external_files(artifact)
    if not files:
        branch.add(Text(f"files from outside, of digest {digest[:12]}"))
        return
    size = numbers.size(sum(file["bytes"] for file in files))
    folder = os.path.commonpath([Path(file["path"]).parent for file in files])
    label = Text(f"{len(files):,} files, {size}, below {folder}").append(f"  {digest[:12]}", style="dim")
    branch.add(label).add(Text(visible(named(file["name"] for file in files)), style="dim"))


def run_facts(run: Run, store: Store) -> dict[str, Any]:
    """The record of a run, with what became of its artifacts."""
    nodes = {}
    for node, each in run.record["nodes"].items():
        artifact = store.find(each["stage"], each["key"])
        found: dict[str, Any] = {"in_store": artifact is not None}
        if artifact:
            manifest = artifact.manifest
            found |= {
                "url": artifact.folder.url,
                "counters": manifest.counters,
                "metrics": manifest.metrics,
                "built_by": manifest.facts.get("run_id"),
                "seconds": manifest.facts.get("seconds"),
            }
        nodes[node] = each | found
    return {"run_id": run.run_id} | run.record | {"nodes": nodes}


def print_run(run: Run, store: Store, console: Console) -> None:
    record = run.record
    console.print(Text(f"run {run.run_id}", style="bold").append(f"  {record['recipe']}", style="not bold"))
    head = {name: record[name] for name in ("status", "code_commit", "log") if record.get(name)}
    if record.get("seconds") is not None:
        head["ran"] = f"{instant(record['started_at'])}, for {numbers.duration(record['seconds'])}"
    if record.get("failed"):
        head["failed"] = "; ".join(f"{node}: {what}" for node, what in record["failed"].items())
    console.print(fields(head))
    table = grid("node", "artifact", "this run", "time", "key figures", right=("time",))
    for node, facts in run_facts(run, store)["nodes"].items():
        place = f"{facts['stage']}/{facts['key'][:12]}"
        if not facts["in_store"]:
            table.add_row(node, place, "", "", Text("gone from the store", style="yellow"))
            continue
        built = facts["built_by"] == run.run_id
        took = numbers.duration(facts["seconds"]) if built and facts["seconds"] is not None else ""
        table.add_row(node, place, "built" if built else "reused", took, _figures(facts))
    console.print(Text(), table)
    console.print(f"\nits recipe: headrace show {run.run_id} --json", style="dim")


def _figures(facts: dict[str, Any]) -> str:
    """The few numbers that tell most."""
    metrics = [f"{name} {numbers.metric(value)}" for name, value in facts["metrics"].items()]
    counters = [f"{numbers.count(value)} {name}" for name, value in facts["counters"].items() if value]
    return in_words(" · ".join([*metrics, *counters][:FIGURES_SHOWN]))
