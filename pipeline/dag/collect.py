"""Garbage: artifacts that no recipe and no recent run reaches, and work that nobody continues."""

import time
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.dag.folder import Folder
from pipeline.dag.store import MANIFEST, Store

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Garbage:
    kind: str
    "artifact or work."
    stage: str
    key: str
    size: int
    "Bytes."
    reason: str
    folder: Folder


def find_garbage(store: Store, *, keep_runs: int, keep_work_days: float) -> list[Garbage]:
    """What may be deleted, largest first.

    Kept are the artifacts that each recipe last had and that the newest runs used, with all they were made from;
    whatever a run is building at this moment or has half committed; and unfinished work younger than `keep_work_days`.
    """
    building = _building(store)
    oldest = time.time() - keep_work_days * DAY_SECONDS
    work = [
        Garbage("work", stage, key, _size(folder), f"unfinished for over {keep_work_days:g} days", folder)
        for stage, key, folder in _keyed_folders(store, "work")
        if (stage, key) not in building and _newest_change(folder) < oldest
    ]
    continued = _half_committed(store, {(each.stage, each.key) for each in work})
    reached = reachable(store, [*_recipe_roots(store), *_run_roots(store, keep_runs), *building, *continued])
    artifacts = [
        Garbage("artifact", stage, key, _size(folder), "no recipe or recent run reaches it", folder)
        for stage, key, folder in _keyed_folders(store, "artifacts")
        if (stage, key) not in reached
    ]
    return sorted([*artifacts, *work], key=lambda each: (-each.size, each.stage, each.key))


def delete_garbage(garbage: Iterable[Garbage]) -> None:
    """Delete it, each manifest before its files: wherever this is killed, nothing half there looks whole.

    Work goes first, since the manifest of a commit cut short vouches for files that lie among the artifacts already.
    """
    for each in sorted(garbage, key=lambda each: each.kind != "work"):
        each.folder.delete(MANIFEST)
        each.folder.delete()


def _half_committed(store: Store, going: Container[tuple[str, str]]) -> set[tuple[str, str]]:
    """What other work than `going` will be: its commit was cut short, and part of its files lie among the artifacts."""
    kept = (folder for stage, key, folder in _keyed_folders(store, "work") if (stage, key) not in going)
    manifests = (folder.read_json(MANIFEST) for folder in kept if folder.exists(MANIFEST))
    return {(manifest["stage"], manifest["key"]) for manifest in manifests}


def reachable(store: Store, roots: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """(stage, key) of the roots and of every artifact they were made from."""
    reached: set[tuple[str, str]] = set()
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if each in reached:
            continue
        reached.add(each)
        if artifact := store.find(*each):
            inputs = (given for port in artifact.manifest.inputs.values() for given in port)
            waiting.extend((given["stage"], given["key"]) for given in inputs)
    return reached


def _recipe_roots(store: Store) -> list[tuple[str, str]]:
    folder = store.root.child("recipes")
    contents = (folder.read_json(entry.name) for entry in folder.files(".json"))
    return [(content["stage"], content["key"]) for content in contents]


def _run_roots(store: Store, keep_runs: int) -> list[tuple[str, str]]:
    folder = store.root.child("runs")
    newest = [entry.name for entry in folder.files(".json")][-keep_runs:] if keep_runs else []
    return [
        (each["stage"], each["key"]) for name in newest for each in folder.read_json(name)["nodes"].values()
    ]


def _building(store: Store) -> set[tuple[str, str]]:
    """What is claimed by a run; claims of killed runs count too until the next run removes them."""
    claims = (entry.name.split("/") for entry in store.root.child("locks").files(".json"))
    return {(steps[0], steps[1]) for steps in claims}


def _keyed_folders(store: Store, kind: str) -> Iterable[tuple[str, str, Folder]]:
    for stage in store.root.child(kind).folders():
        for key in store.root.child(f"{kind}/{stage}").folders():
            yield stage, key, store.root.child(f"{kind}/{stage}/{key}")


def _size(folder: Folder) -> int:
    return sum(entry.size for entry in folder.files())


def _newest_change(folder: Folder) -> float:
    """Unix time of the newest file; now for a remote folder without times."""
    if not folder.is_local:
        infos = folder.filesystem.get_file_info([folder.at(entry.name) for entry in folder.files()])
        return max((info.mtime.timestamp() for info in infos if info.mtime), default=0.0)
    return max((Path(folder.at(entry.name)).stat().st_mtime for entry in folder.files()), default=0.0)
