"""REF on the command line: a node, a path, or the beginning of a fingerprint, to the artifact it means."""

import re

from pipeline.dag.folder import open_folder
from pipeline.dag.plan import Planner
from pipeline.dag.store import MANIFEST, Artifact, Manifest, Store
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
    if planner and reference in planner.graph.stages:
        return _of_node(reference, planner)
    if artifact := _at_path(reference) or _with_prefix(reference, store):
        return artifact
    nodes = list(planner.graph.stages) if planner else []
    raise ConfigError(
        f'"{reference}" is neither a node of the recipe, nor an artifact',
        where="the command line",
        allowed=f"a node ({', '.join(nodes)}), the folder of an artifact, a fingerprint's beginning, an MLflow run id",
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
    folder = open_folder(reference.removesuffix(f"/{MANIFEST}").rstrip("/"))
    if not folder.exists(MANIFEST):
        return None
    return Artifact(folder, Manifest.from_json(folder.read_json(MANIFEST)))


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
