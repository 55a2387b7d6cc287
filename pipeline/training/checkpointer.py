"""Checkpoints taken while training goes on: it waits for a copy to host memory, a thread of each rank writes the copy.

Each rank writes its file, then a receipt (size, digest, what is in it). The first rank waits for all receipts of this
very run, then writes the manifest. One checkpoint is in flight at most. When the next is due before the last is
written, training waits for it as long as its writing goes well (and says so): checkpoints come as often as was asked.
Where its writing fails, it is tried again while training goes on, and given up when the next is due, which takes its
place. The run stops when `MAX_FAILED` or more in a row were given up for `PATIENCE_SECONDS`, or when the final one has
failed for so long.

Ephemeral checkpoints are for going on: the newest two whole ones stay. Permanent ones, every `keep_every_steps`, stay
beside them until the artifact is committed, to go back to by hand; with the artifact all of them have done their work.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pipeline.dag.folder import Folder
from pipeline.errors import StageFailedError
from pipeline.training.checkpoint import (
    EPHEMERAL,
    MANIFEST,
    PERMANENT,
    Manifest,
    folder_name,
    key_of,
    retire,
    sealed,
)
from pipeline.training.engine import Engine
from pipeline.training.fragments import Fragment, named_parameters, whole_shape
from pipeline.training.hostcopy import HostCopy
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import METRICS_FILE, Recorder
from pipeline.training.spikes import SpikePolicy
from pipeline.training.tensorfile import write_tensors
from pipeline.training.timing import Part
from pipeline.training.writing import Writing, in_a_line

KEEP = 2
"""Whole checkpoints that stay: the newest, and one before it in case the newest is damaged."""
MAX_FAILED = 3
"""Checkpoints in a row whose failure stops the run."""
PATIENCE_SECONDS = 60.0
"""How long they, or the final one, fail before the run does: however short the steps, a moment's outage stops none."""
GRACE_SECONDS = 10.0
"""How long a run that ends early lets its last checkpoint be written."""
WAIT_TOLD_SECONDS = 1.0
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.01, 1.0
"""Between two looks for the receipts of the other ranks."""
PART, ALL = 1, 2
"""Jobs of the first rank's thread; the other ranks have the first of them."""


@dataclass(frozen=True)
class Rhythm:
    """After which steps a checkpoint is due."""

    every_steps: int
    last_step: int
    keep_every_steps: int | None = None

    def is_due(self, step: int) -> bool:
        return step == self.last_step or step % self.every_steps == 0 or self.is_permanent(step)

    def is_permanent(self, step: int) -> bool:
        return bool(self.keep_every_steps) and step % (self.keep_every_steps or 1) == 0


@dataclass
class Checkpointer:
    """Saves when due: every so many steps, and at the end. The calls, but `close`, are made by all ranks together."""

    engine: Engine
    scratch: Folder
    ranks: Ranks
    recorder: Recorder
    rhythm: Rhythm
    first_step: int = 0
    "The step of the checkpoint that training goes on from; 0: none."
    origin: dict[str, Any] = field(default_factory=dict)
    "Of which training the checkpoints are, for whoever finds them."
    _copy: HostCopy = field(default_factory=HostCopy, init=False)
    _writing: Writing | None = field(default=None, init=False)
    _whole: list[int] = field(default_factory=list, init=False)
    "Steps of the newest checkpoints that are known to be whole, rising."
    _num_failed: int = field(default=0, init=False)
    "Checkpoints in a row that were given up."
    _failing_since: float = field(default=0.0, init=False)
    "When the first of them was, by the first rank's clock."
    _is_outage_told: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.engine.disk:  # one that is full is told of now, and not at the first checkpoint
            self._copy.make_room(self.engine)
        self._whole = [self.first_step] if self.first_step else []
        self._run: str = self.ranks.gather(secrets.token_hex(8))[0]

    def offer(self, step: int) -> None:
        """Called after `step` updates."""
        if self.rhythm.is_due(step):
            with self.engine.timing.part(Part.checkpoint):
                self.save(step)

    def save(self, step: int) -> None:
        """Copy the state after `step` updates and let it be written; the last step's is whole on return.

        Raises:
            StageFailedError: too many checkpoints in a row could not be written, or the final one.
        """
        self._settle(patience=0.0)
        fragments = self._copy.take(self.engine)
        jobs = [partial(self._write_part, step, fragments)]
        if self.ranks.is_first:
            jobs.append(
                partial(self._finish, self._manifest(step), self.recorder.as_bytes(), tuple(self._whole))
            )
        self._writing = Writing(step, jobs, on_failure=partial(self._tell_outage, step))
        if step == self.rhythm.last_step:
            self._settle(patience=PATIENCE_SECONDS)

    def save_now(self, step: int) -> None:
        """See a checkpoint after `step` updates whole, due or not, unless it matters where the last one is."""
        is_in_flight = self._writing is not None and self._writing.step == step
        if not is_in_flight and self.engine.config.spike_policy is not SpikePolicy.rewind:
            self.save(step)
        self.settle()

    def settle(self) -> None:
        """See the checkpoint in flight to its end, however long that takes: for whoever is about to go back to it."""
        self._settle(patience=PATIENCE_SECONDS)

    def close(self) -> None:
        """Let the checkpoint in flight be written, where that does not take long; each rank for itself."""
        if self._writing:
            self._writing.end(within=GRACE_SECONDS)
            self._writing.give_up()

    def _settle(self, *, patience: float) -> None:
        """See the checkpoint in flight, if there is one, to its end: whole, or given up by all ranks."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        faults: list[str] = []
        waited = 0.0
        for num_jobs in (PART, ALL):  # the manifest is not waited for where a part of it fails
            if not faults:
                begun_at = time.monotonic()
                failure = writing.wait(num_jobs, patience=patience)
                waited += time.monotonic() - begun_at
                failures = self.ranks.gather(failure)
                faults = [f"{why} (rank {rank})" for rank, why in enumerate(failures) if why]
        if faults:
            writing.give_up()
        writing.end()
        outcomes = self.ranks.gather((writing.is_done, time.monotonic()))
        is_whole, now = outcomes[0]  # the first rank's holds for all
        if is_whole:
            self._num_failed = 0
            self._whole = [*self._whole, writing.step][-KEEP:]
            self._tell_wait(writing.step, waited)
        else:
            self._give_up(writing.step, faults[0], now)

    def _give_up(self, step: int, fault: str, now: float) -> None:
        if not self._num_failed:
            self._failing_since = now
            self.recorder.say(f"the checkpoint of step {step} is given up for a newer one: {fault}")
        self._num_failed += 1
        if step == self.rhythm.last_step:
            raise self._unwritable(f"the final checkpoint could not be written: {fault}")
        if self._num_failed >= MAX_FAILED and now - self._failing_since >= PATIENCE_SECONDS:
            raise self._unwritable(f"{self._num_failed} checkpoints in a row could not be written: {fault}")

    def _unwritable(self, what: str) -> StageFailedError:
        after = f"goes on from step {self._whole[-1]}" if self._whole else "begins again"
        return StageFailedError(
            what,
            where=self.scratch.url,
            allowed="a store that answers and has room for three checkpoints",
            do=f"free some room or bring the store back; the same command {after}",
        )

    def _manifest(self, step: int) -> Manifest:
        """What the first rank knows of a checkpoint before the files are written."""
        shapes = {name: list(whole_shape(parameter)) for name, parameter in named_parameters(self.engine)}
        kind = PERMANENT if self.rhythm.is_permanent(step) else EPHEMERAL
        manifest = {"step": step, "kind": kind, "shapes": shapes, "origin": self.origin}
        if self.engine.loss_scale:
            manifest["loss_scale"] = self.engine.loss_scale.state()
        return manifest | {"spikes": self.engine.spikes.state()}

    def _write_part(self, step: int, fragments: list[Fragment], _: Writing) -> None:
        """In the thread: this rank's file, then its receipt."""
        folder = self.scratch.child(folder_name(step))
        if self.ranks.is_first:
            folder.delete(MANIFEST)  # a damaged checkpoint of this step, from before a resume
        name = f"{self._part(self.ranks.rank)}.safetensors"
        tensors = {key_of(kind, each): part for each in fragments for kind, part in each.tensors.items()}
        written = write_tensors(folder, name, tensors)
        pieces = [[each.name, each.start, each.numel] for each in fragments]
        receipt = {"run": self._run, "name": name, **written, "fragments": pieces}
        folder.write_bytes(f"{self._part(self.ranks.rank)}.json", json.dumps(receipt).encode())

    def _finish(self, manifest: Manifest, metrics: bytes, whole: Sequence[int], writing: Writing) -> None:
        """In the first rank's thread: the manifest, when all parts are there; then what is too old goes."""
        folder = self.scratch.child(folder_name(writing.step))
        parts = [self._receipt(folder, rank, writing) for rank in range(self.ranks.world_size)]
        folder.write_bytes(METRICS_FILE, metrics)
        files = {part["name"]: {"size": part["size"], "sha256": part["sha256"]} for part in parts}
        files[METRICS_FILE] = {"size": len(metrics), "sha256": hashlib.sha256(metrics).hexdigest()}
        pieces = {part["name"]: part["fragments"] for part in parts}
        folder.write_json(MANIFEST, sealed(manifest | {"files": files, "fragments": pieces}))
        self._tell_recovery(writing.step)
        try:
            retire(self.scratch, keep=[*whole, writing.step][-KEEP:], least=KEEP)
        except OSError as error:  # the next checkpoint tries again
            self.recorder.say(f"old checkpoints cannot be removed: {in_a_line(error)}")

    def _receipt(self, folder: Folder, rank: int, writing: Writing) -> dict[str, Any]:
        """What a rank has written, as soon as it has."""
        name, pause = f"{self._part(rank)}.json", FIRST_LOOK_SECONDS
        while True:
            if folder.exists(name):
                receipt: dict[str, Any] = folder.read_json(name)
                if receipt["run"] == self._run:
                    return receipt
            writing.pause(pause)
            pause = min(2 * pause, LONGEST_LOOK_SECONDS)

    def _part(self, rank: int) -> str:
        return f"rank-{rank:05d}-of-{self.ranks.world_size:05d}"

    def _tell_outage(self, step: int, why: str) -> None:
        """In the thread: once, until a checkpoint is written again."""
        if not self._is_outage_told:
            self._is_outage_told = True
            self.recorder.say(
                f"the checkpoint of step {step} cannot be written to {self.scratch.url}: {why}; it is tried again "
                "while training goes on"
            )

    def _tell_recovery(self, step: int) -> None:
        """In the first rank's thread."""
        if self._is_outage_told or self._num_failed:
            self._is_outage_told = False
            self.recorder.say(
                f"the checkpoint of step {step} is written; {self._num_failed} before it given up"
            )

    def _tell_wait(self, step: int, seconds: float) -> None:
        if seconds > WAIT_TOLD_SECONDS and step != self.rhythm.last_step:
            self.recorder.say(
                f"training waited {seconds:.1f} s until the checkpoint of step {step} was written: "
                "a larger resources.checkpoint_every_steps avoids it"
            )
