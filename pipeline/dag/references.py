"""REF on the command line: a node, a path, or the beginning of a fingerprint, to the artifact it means."""

import re

from pipeline.dag.folder import open_folder
from pipeline.dag.plan import Planner
from pipeline.dag.store import MANIFEST, Artifact, Store, read_artifact
from pipeline.errors import ConfigError, close_match

SHORTEST_PREFIX = 4


def resolve(reference: str, *, store: Store, planner: Planner | None) -> Artifact:
    """The artifact that `reference` means.

    Args:
        reference: a node of the recipe, the path or URL of an artifact's folder, or a fingerprint's beginning.
        store: where fingerprints are looked up.
        planner: of the current recipe; None where no recipe is at hand.

    Raises:
        ConfigError: it means nothing, or several things, or a node that is not built.
    """
    if artifact := find(reference, store=store, planner=planner):
        return artifact
    raise unknown_reference(reference, planner)


def find(reference: str, *, store: Store, planner: Planner | None) -> Artifact | None:
    """As `resolve`, but None where the reference means nothing."""
    if planner and reference in planner.graph.stages:
        return _of_node(reference, planner)
    return _at_path(reference) or _with_prefix(reference, store)


def find_part(reference: str, *, store: Store, planner: Planner | None) -> tuple[Artifact, str] | None:
    """As `find`, and the part that is meant: `REF/part` for a top-level folder of an artifact, else an empty string.

    Raises:
        ConfigError: the artifact has no such part.
    """
    if whole := find(reference, store=store, planner=planner):
        return whole, ""
    head, _, part = reference.rstrip("/").rpartition("/")
    artifact = find(head, store=store, planner=planner) if head else None
    if artifact is None:
        return None
    check_part(artifact, part, where="the command line")
    return artifact, part


def check_part(artifact: Artifact, part: str, *, where: str) -> None:
    """Raises ConfigError where the artifact has no top-level folder of that name."""
    parts = artifact.manifest.parts()
    if part and part not in parts:
        raise ConfigError(
            f'{artifact.manifest.stage}/{artifact.manifest.key[:12]} has no part "{part}"',
            where=where,
            allowed=", ".join(parts) or "the whole of it; it has no parts",
            do=f"{close_match(part, parts)}name one of these",
        )


def unknown_reference(reference: str, planner: Planner | None) -> ConfigError:
    """What to say of a reference that means nothing."""
    nodes = list(planner.graph.stages) if planner else []
    return ConfigError(
        f'"{reference}" is neither a node of the recipe, nor an artifact, nor a run',
        where="the command line",
        allowed=f"a node ({', '.join(nodes)}), the folder of an artifact, a fingerprint's beginning, a run id",
        do=f"{close_match(reference, nodes)}`headrace plan` lists the nodes with their fingerprints",
    )


def _of_node(node: str, planner: Planner) -> Artifact:
    plan = planner.plan([node])[node]
    if plan.artifact:
        return plan.artifact
    raise ConfigError(
        f'the node "{node}" is not built with these settings ({"; ".join(plan.reasons)})',
        where="the command line",
        allowed="a node that is in the store",
        do=f"headrace run {node}",
    )


def _at_path(reference: str) -> Artifact | None:
    if "/" not in reference:
        return None
    return read_artifact(open_folder(reference.removesuffix(f"/{MANIFEST}").rstrip("/")))


def _with_prefix(reference: str, store: Store) -> Artifact | None:
    prefix = reference.rpartition("/")[2]
    if len(prefix) < SHORTEST_PREFIX or not re.fullmatch(r"[0-9a-f]+", prefix):
        return None
    found = [
        (stage, key)
        for stage in store.root.child("artifacts").folders()
        for key in store.root.child(f"artifacts/{stage}").folders()
        if key.startswith(prefix)
    ]
    if len(found) > 1:
        raise ConfigError(
            f'"{prefix}" begins several fingerprints',
            where="the command line",
            allowed=", ".join(f"{stage}/{key}" for stage, key in found),
            do="give more of it",
        )
    return store.find(*found[0]) if found else None
