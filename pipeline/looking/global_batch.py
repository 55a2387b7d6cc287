"""What a training saw at one step: the sequences of its global batch and the documents that each is made of."""

from dataclasses import fields
from enum import EnumType
from typing import Any, get_type_hints

from rich.console import Console
from rich.text import Text

from data.batches import TrainingBatches
from data.mixture import MixtureRules
from pipeline.dag.folder import Folder
from pipeline.dag.store import Artifact, Store
from pipeline.errors import ConfigError
from pipeline.looking.lineage import Origin, origins
from pipeline.looking.page import grid, visible
from pipeline.training.config import Packing, TrainingConfig
from pipeline.training.objective import ObjectiveSettings
from pipeline.training.sources import open_sources, source_names

TRAINS = ("pretrain", "finetune")


def global_batch_facts(artifact: Artifact, step: int, store: Store) -> dict[str, Any]:
    """The sequences of `step` (from 0) in their order, each with its source and its documents.

    Raises:
        ConfigError: the artifact is no training, has no such step, or its tokens are no longer in the store.
    """
    manifest = artifact.manifest
    if manifest.stage not in TRAINS:
        raise ConfigError(
            f"{manifest.node} is of the stage {manifest.stage}, which trains nothing",
            where="--sequence",
            allowed=f"an artifact of {' or '.join(TRAINS)}",
            do="name a training",
        )
    training = _training_of(manifest.payload["config"])
    given = [each for each in origins(artifact) if each.port == "tokens"]
    names = source_names([each.source for each in given])
    folders = {name: _folder(each, store) for name, each in zip(names, given, strict=True)}
    config = manifest.payload["config"]
    mixture = MixtureRules(**config.get("mixture", {}))
    packing = Packing(config["packing"]) if "packing" in config else None
    learned = open_sources(folders, training, packing=packing, mixture=mixture)
    batches, num_steps = learned.batches, learned.length.num_steps
    if not 0 <= step < num_steps:
        raise ConfigError(
            f"there is no step {step}",
            where="--sequence",
            allowed=f"0 to {num_steps - 1}",
            do="name a step of this training",
        )
    sequences = [_sequence(batches, int(sequence), names) for sequence in batches.sequence_ids(step)]
    return {"node": manifest.node, "step": step, "sequences": sequences}


def print_global_batch(facts: dict[str, Any], console: Console) -> None:
    count = len(facts["sequences"])
    console.print(Text(f"{facts['node']}, step {facts['step']}: {count} sequences\n", style="bold"))
    table = grid("place", "sequence", "source", "document", "tokens", right=("place", "sequence", "tokens"))
    for place, each in enumerate(facts["sequences"]):
        opening = (str(place), str(each["sequence"]), each["source"])
        for document in each["documents"]:
            table.add_row(*opening, Text(visible(document["id"])), str(document["tokens"]))
            opening = ("", "", "")
    console.print(table)


def _training_of(config: dict[str, Any]) -> TrainingConfig:
    """A field that is newer than the artifact has its default: what trainings did before it was there."""
    kinds = get_type_hints(TrainingConfig)
    beside = {each.name for each in fields(ObjectiveSettings)}  # of what a model makes of the sequences
    names = [each.name for each in fields(TrainingConfig) if each.name in config and each.name not in beside]
    enums = {name: kinds[name](config[name]) for name in names if isinstance(kinds[name], EnumType)}
    return TrainingConfig(**{name: config[name] for name in names} | enums)


def _folder(origin: Origin, store: Store) -> Folder:
    artifact = store.find(origin.stage, origin.key)
    if artifact is None:
        raise ConfigError(
            f"the tokens of {origin.source} are no longer in the store",
            where=f"store={store.url}",
            allowed=f"{origin.stage}/{origin.key}",
            do=f"run {origin.node} again with the settings it had",
        )
    return artifact.folder.child(origin.part) if origin.part else artifact.folder


def _sequence(batches: TrainingBatches, sequence: int, names: list[str]) -> dict[str, Any]:
    source, spans = batches.spans(sequence)
    shards = batches.pools[source].shards
    documents = [
        {"id": shards.row_name(span.row), "row": span.row, "tokens": span.end - span.begin} for span in spans
    ]
    return {"sequence": sequence, "source": names[source], "documents": documents}
