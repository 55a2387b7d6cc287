"""What an artifact was made from, back to the files from outside."""

from dataclasses import dataclass
from typing import Any

from pipeline.dag.store import Artifact, Store

FILES = "logs/files.json"
"Where a stage that reads files from outside notes their names and places."


@dataclass(frozen=True)
class Origin:
    """One artifact at a port of another."""

    port: str
    node: str
    part: str
    stage: str
    key: str
    digest: str
    pinned: bool = False

    @property
    def source(self) -> str:
        """The reference as the recipe had it."""
        return f"{self.node}/{self.part}" if self.part else self.node


@dataclass(frozen=True)
class Ancestor:
    """An artifact on the way back; None where it is no longer in the store."""

    artifact: Artifact | None
    origins: list[Origin]


def origins(artifact: Artifact) -> list[Origin]:
    """The artifacts it was made from directly."""
    return [
        Origin(
            name, **{key: value for key, value in given.items() if key != "pinned"}, pinned="pinned" in given
        )
        for name, port in artifact.manifest.inputs.items()
        for given in port
    ]


def ancestry(artifact: Artifact, store: Store) -> dict[tuple[str, str], Ancestor]:
    """(stage, key) to each artifact on the way back, itself first; every one once."""
    manifest = artifact.manifest
    found = {(manifest.stage, manifest.key): Ancestor(artifact, origins(artifact))}
    waiting = list(origins(artifact))
    while waiting:
        each = waiting.pop(0)
        if (each.stage, each.key) in found:
            continue
        parent = store.find(each.stage, each.key)
        above = origins(parent) if parent else []
        found[each.stage, each.key] = Ancestor(parent, above)
        waiting += above
    return found


def home_of(artifact: Artifact, otherwise: Store) -> Store:
    """The store that an artifact lies in, which a path may have named; `otherwise` where its place does not tell."""
    address, mark, query = artifact.folder.url.partition("?")
    place = f"/artifacts/{artifact.manifest.stage}/{artifact.manifest.key}"
    if not address.endswith(place):
        return otherwise
    return Store(f"{address.removesuffix(place)}{mark}{query}")


def external_files(artifact: Artifact) -> list[dict[str, Any]]:
    """Name, path and bytes of the files from outside that it was made from; empty where it read none."""
    if not any(file.name == FILES for file in artifact.manifest.files):
        return []
    files: list[dict[str, Any]] = artifact.folder.read_json(FILES)
    return files


def lineage_facts(family: dict[tuple[str, str], Ancestor]) -> list[dict[str, Any]]:
    """The way back as plain values: every artifact with its inputs, and the files at its ends."""
    facts = []
    for (stage, key), ancestor in family.items():
        artifact = ancestor.artifact
        fact: dict[str, Any] = {"stage": stage, "key": key, "in_store": artifact is not None}
        if artifact:
            fact |= {"node": artifact.manifest.node, "digest": artifact.manifest.digest}
            fact["inputs"] = artifact.manifest.inputs
            if files := artifact.manifest.payload.get("files"):
                fact |= {"files_digest": files, "files": external_files(artifact)}
        facts.append(fact)
    return facts
