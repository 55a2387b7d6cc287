"""Checkpoints: resumable training state in a folder of the store, whole or not there at all.

`step-00000050/` holds one safetensors file per rank with that rank's fragments, the metrics up to the step, and
`manifest.json`: size and SHA-256 of every file and of itself, and where each piece of each parameter is. The manifest
is written last and atomically (`pipeline.training.checkpointer`); its presence is wholeness. There is no "latest" to
break: the newest is the highest step that is whole. Pieces are found by parameter name, so any number of ranks and any
ZeRO stage can read what any other wrote.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from pipeline.dag.folder import Folder
from pipeline.training.engine import Engine
from pipeline.training.fragments import (
    WEIGHT,
    Fragment,
    fragments_of,
    renew,
    set_updates,
)
from pipeline.training.ranks import Ranks

MANIFEST = "manifest.json"
SEAL = "sha256"
"""In the manifest: of all the rest of it, as JSON."""
PREFIX = "step-"
EPHEMERAL, PERMANENT = "ephemeral", "permanent"
"""Kinds: what is there to go on from, and what stays until the artifact is there."""

Manifest = dict[str, Any]


def newest_whole(scratch: Folder, ranks: Ranks) -> tuple[Manifest | None, list[str]]:
    """The manifest of the newest checkpoint that is whole, and a note for each one that was passed over.

    Called by all ranks together: each looks at its share of the files, and all come to the same answer.
    """
    notes: list[str] = []
    for step in reversed(steps_saved(scratch)):
        folder = scratch.child(folder_name(step))
        faults = [fault for each in ranks.gather(_faults(folder, ranks)) for fault in each]
        if not faults:
            return folder.read_json(MANIFEST), notes
        notes.append(f"checkpoint of step {step} is damaged ({faults[0]}): going on from the one before it")
    return None, notes


def restore(engine: Engine, scratch: Folder, manifest: Manifest) -> None:
    """Set weights, optimizer states and step from a whole checkpoint, whatever topology wrote it."""
    reader = Reader(scratch, manifest)
    for fragment in fragments_of(engine):
        for kind, part in fragment.tensors.items():
            reader.read_into(part, kind=kind, name=fragment.name, start=fragment.start)
    if engine.loss_scale:
        engine.loss_scale.restore(manifest["loss_scale"])
    engine.spikes.restore(manifest.get("spikes"))
    skipped = engine.loss_scale.num_skipped if engine.loss_scale else 0
    set_updates(engine, int(manifest["step"]) - skipped - engine.spikes.num_left_out)
    renew(engine)


def whole_weights(scratch: Folder, manifest: Manifest, *, kind: str = WEIGHT) -> dict[str, Tensor]:
    """The fp32 weights of a checkpoint, or a state in their place, by parameter name, in their shapes."""
    reader = Reader(scratch, manifest)
    weights = {}
    for name, shape in manifest["shapes"].items():
        weight = torch.empty(torch.Size(shape).numel())
        reader.read_into(weight, kind=kind, name=name, start=0)
        weights[name] = weight.view(shape)
    return weights


class Reader:
    """Reads pieces of parameters out of the files of a checkpoint, from wherever they lie."""

    def __init__(self, scratch: Folder, manifest: Manifest) -> None:
        self._folder = scratch.child(folder_name(manifest["step"]))
        self._fetched: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, Any] = {}
        self._pieces: dict[str, list[tuple[int, int, str]]] = {}
        for file, fragments in manifest["fragments"].items():
            for name, start, numel in fragments:
                self._pieces.setdefault(name, []).append((start, numel, file))

    def read_into(self, target: Tensor, *, kind: str, name: str, start: int) -> None:
        """Fill fp32 `target` [N] with the elements [start, start + N) of a flattened parameter."""
        end, filled = start + target.numel(), 0
        for begin, numel, file in self._pieces.get(name, []):
            low, high = max(start, begin), min(end, begin + numel)
            if low < high:
                part = self._open(file).get_slice(f"{kind}/{name}@{begin}")[low - begin : high - begin]
                target[low - start : high - start].copy_(part)
                filled += high - low
        assert filled == target.numel(), f"{name}: the checkpoint holds {filled} of {target.numel()} elements"

    def _open(self, file: str) -> Any:
        if file not in self._files:
            self._files[file] = safe_open(self._path_of(file), framework="pt")
        return self._files[file]

    def _path_of(self, file: str) -> Path:
        """Where the file can be mapped: fetched anew from a remote store, since a resumed run may write it again."""
        if self._folder.is_local:
            return Path(self._folder.at(file))
        self._fetched = self._fetched or tempfile.TemporaryDirectory(prefix="headrace-checkpoint-")
        path = Path(self._fetched.name) / file
        with self._folder.opening(file) as source, path.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 22)
        return path


def folder_name(step: int) -> str:
    return f"{PREFIX}{step:08d}"


def steps_begun(scratch: Folder) -> list[int]:
    """Steps whose checkpoint has a folder, rising."""
    return sorted(int(name[len(PREFIX) :]) for name in scratch.folders() if name.startswith(PREFIX))


def steps_saved(scratch: Folder) -> list[int]:
    """Steps whose checkpoint has a manifest, rising."""
    return [step for step in steps_begun(scratch) if scratch.exists(f"{folder_name(step)}/{MANIFEST}")]


def retire(scratch: Folder, *, keep: Collection[int], least: int) -> None:
    """Remove what is older than the newest of `keep`, once there are `least` of them; permanent ones stay.

    Torn and damaged ones go too: only what is known to be whole takes up a place.
    """
    if len(keep) < least:
        return
    for step in steps_begun(scratch):
        if step < max(keep) and step not in keep and not _is_permanent(scratch, step):
            discard(scratch, step)


def _is_permanent(scratch: Folder, step: int) -> bool:
    try:
        kind = scratch.read_json(f"{folder_name(step)}/{MANIFEST}").get("kind")
    except (FileNotFoundError, ValueError, AttributeError):
        return False
    return bool(kind == PERMANENT)


def discard(scratch: Folder, step: int) -> None:
    """Remove a checkpoint; its manifest first, so that no moment shows half of one as whole."""
    scratch.delete(f"{folder_name(step)}/{MANIFEST}")
    scratch.delete(folder_name(step))


def _faults(folder: Folder, ranks: Ranks) -> list[str]:
    """What is wrong with this rank's share of a checkpoint's files."""
    try:
        manifest = folder.read_json(MANIFEST)
        if manifest[SEAL] != _digest(manifest):
            return [f"{MANIFEST} has been altered"]
        files = sorted(manifest["files"].items())
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return [f"{MANIFEST} cannot be read: {error}"]
    sizes = {entry.name: entry.size for entry in folder.files()}
    found = [f"{name} is missing or cut short" for name, file in files if sizes.get(name) != file["size"]]
    mine = [] if found else files[ranks.rank :: ranks.world_size]
    return found + [f"{name} has other bytes" for name, file in mine if folder.digest(name) != file["sha256"]]


def sealed(manifest: Manifest) -> Manifest:
    """With its own digest, so that an altered one is known."""
    return manifest | {SEAL: _digest(manifest)}


def _digest(manifest: Manifest) -> str:
    content = {name: value for name, value in manifest.items() if name != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def key_of(kind: str, fragment: Fragment) -> str:
    """A tensor's name in its file."""
    return f"{kind}/{fragment.name}@{fragment.start}"
