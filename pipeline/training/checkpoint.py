"""Checkpoints: resumable training state in a folder of the store, whole or not there at all.

`step-00000050/` holds one safetensors file per rank with that rank's fragments, the metrics up to the step, and
`manifest.json`: size and SHA-256 of every file, and where each piece of each parameter is. The manifest is written last
and atomically; its presence is wholeness. There is no "latest" to break: the newest is the highest step that is whole.
Pieces are found by parameter name, so any number of ranks and any ZeRO stage can read what any other wrote.
"""

import shutil
import tempfile
from dataclasses import dataclass
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
    named_parameters,
    renew,
    set_updates,
    shares_of,
    whole_shape,
)
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import METRICS_FILE, Recorder
from pipeline.training.tensorfile import write_tensors

MANIFEST = "manifest.json"
KEEP = 2
"""Whole checkpoints that stay: the newest, and one before it in case the newest is damaged."""

Manifest = dict[str, Any]


@dataclass
class Checkpointer:
    """Saves when due: every so many steps, and at the end."""

    engine: Engine
    scratch: Folder
    ranks: Ranks
    recorder: Recorder
    every_steps: int
    last_step: int

    def offer(self, step: int) -> None:
        """Called after `step` updates."""
        if step == self.last_step or step % self.every_steps == 0:
            self.save(step)

    def save(self, step: int) -> None:
        """Write the state after `step` updates; called by all ranks together."""
        folder = self.scratch.child(folder_name(step))
        if self.ranks.is_first:
            folder.delete(MANIFEST)  # a damaged checkpoint of this step, from before a resume
        self.ranks.wait()
        fragments = shares_of(self.engine)
        name = f"rank-{self.ranks.rank:05d}-of-{self.ranks.world_size:05d}.safetensors"
        tensors = {_key(kind, each): part for each in fragments for kind, part in each.tensors.items()}
        written = write_tensors(folder, name, tensors)
        mine = {"name": name, **written, "fragments": [[f.name, f.start, f.numel] for f in fragments]}
        parts = self.ranks.gather(mine)
        if self.ranks.is_first:
            self._finish(folder, step, parts)
        self.ranks.wait()

    def _finish(self, folder: Folder, step: int, parts: list[dict[str, Any]]) -> None:
        metrics = self.recorder.as_bytes()
        folder.write_bytes(METRICS_FILE, metrics)
        shapes = {name: list(whole_shape(parameter)) for name, parameter in named_parameters(self.engine)}
        files = {part["name"]: {"size": part["size"], "sha256": part["sha256"]} for part in parts}
        files[METRICS_FILE] = {"size": len(metrics), "sha256": folder.digest(METRICS_FILE)}
        pieces = {part["name"]: part["fragments"] for part in parts}
        manifest = {"step": step, "shapes": shapes, "files": files, "fragments": pieces}
        if self.engine.loss_scale:
            manifest["loss_scale"] = self.engine.loss_scale.state()
        manifest["spikes"] = self.engine.spikes.state()
        folder.write_json(MANIFEST, manifest)
        for old in steps_saved(self.scratch)[:-KEEP]:
            discard(self.scratch, old)


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
    return f"step-{step:08d}"


def steps_saved(scratch: Folder) -> list[int]:
    """Steps whose checkpoint has a manifest, rising."""
    names = [name for name in scratch.folders() if name.startswith("step-")]
    return sorted(int(name[5:]) for name in names if scratch.exists(f"{name}/{MANIFEST}"))


def discard(scratch: Folder, step: int) -> None:
    """Remove a checkpoint; its manifest first, so that no moment shows half of one as whole."""
    scratch.delete(f"{folder_name(step)}/{MANIFEST}")
    scratch.delete(folder_name(step))


def _faults(folder: Folder, ranks: Ranks) -> list[str]:
    """What is wrong with this rank's share of a checkpoint's files."""
    try:
        files = sorted(folder.read_json(MANIFEST)["files"].items())
    except (ValueError, KeyError, OSError) as error:
        return [f"{MANIFEST} cannot be read: {error}"]
    sizes = {entry.name: entry.size for entry in folder.files()}
    found = [f"{name} is missing or cut short" for name, file in files if sizes.get(name) != file["size"]]
    mine = [] if found else files[ranks.rank :: ranks.world_size]
    return found + [f"{name} has other bytes" for name, file in mine if folder.digest(name) != file["sha256"]]


def _key(kind: str, fragment: Fragment) -> str:
    return f"{kind}/{fragment.name}@{fragment.start}"
