"""What a training's steps took on a device, kept in the store by all that it depends on, for `plan`. Torch-free.

measured/<key>/<device>.json            the newest measurement of a training on a device
measured/newest/<kind>/<device>.json    the newest of all on that device, by precision and what a rank has
"""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.config import ModelConfig
from pipeline.dag.facts import versions
from pipeline.dag.folder import Folder
from pipeline.dag.resources import Recomputation, Resources
from pipeline.training.config import TrainingConfig, offloads_to_disk, split_batch, zero_stage_of
from pipeline.training.fit import memory_with
from pipeline.training.objective import Objective

LIBRARIES = ("headrace", "torch", "deepspeed")
"Whose versions speed and memory depend on."


@dataclass(frozen=True)
class Pace:
    """A measurement of a few steps."""

    device: str
    seconds_per_step: float
    bytes_per_rank: float
    "Of the rank that has held the most."
    flops_per_second: float
    "Of a rank, by the count of `model.flops`."
    mfu: float
    "That as a fraction of what its matmuls can do."
    num_steps: int
    "Measured, after the first."

    def words(self) -> str:
        """A step's time and a rank's memory."""
        size = self.bytes_per_rank / (1 << 30)
        return (
            f"measured on {self.device}: {in_seconds(self.seconds_per_step)} a step, {size:.3g} GiB per rank"
        )


def conditions(
    model: ModelConfig, training: TrainingConfig, resources: Resources, teacher: ModelConfig | None = None
) -> dict[str, Any]:
    """All that time and memory of a step depend on but the device. `num_workers` is set; open settings are off."""
    ranks = resources.num_workers or 1
    split = split_batch(training, world_size=ranks, micro_batch_size=resources.micro_batch_size)
    return {
        "model": model.to_dict(),
        "training": {
            "seq_len": training.seq_len,
            "sequences_per_step": training.sequences_per_step,
            "precision": training.precision.value,
            "optimizer": training.optimizer.value,
            "ema": training.ema_decay > 0,
            "mask_documents": training.mask_documents,
            **_objective(model, training),
        }
        | ({"teacher": teacher.to_dict()} if teacher else {}),
        "resources": asdict(split)
        | {
            "num_gpus": resources.num_gpus or 0,
            "cpus_per_worker": None if resources.num_gpus else resources.cpus_per_worker,
            "zero_stage": zero_stage_of(training, resources, world_size=ranks),
            "offload_optimizer": bool(resources.offload_optimizer),
            "offload_parameters": bool(resources.offload_parameters),
            "activation_checkpointing": (resources.activation_checkpointing or Recomputation.none).value,
        }
        | ({"offload_folder": True} if offloads_to_disk(resources) else {}),
        "versions": {name: versions()[name] for name in LIBRARIES},
    }


def _objective(model: ModelConfig, training: TrainingConfig) -> dict[str, Any]:
    """Of which time and memory depend; nothing for causal_lm, as it was before there were others."""
    objective = training.objective_of(model)
    if objective is Objective.causal_lm:
        return {}
    rules: dict[Objective, dict[str, Any]] = {
        Objective.masked_lm: asdict(training.masking),
        Objective.span_corruption: asdict(training.spans),
    }
    return {"objective": objective.value} | rules.get(objective, {})


def step_flops(model: ModelConfig, training: TrainingConfig, teacher: ModelConfig | None = None) -> float:
    """Operations of a step, of all ranks together; of a teacher, those of its forward pass, a third."""
    each = training.flops_per_token(model, training.seq_len)
    each += training.flops_per_token(teacher, training.seq_len) // 3 if teacher else 0
    return float(each * training.seq_len * training.sequences_per_step)


@dataclass(frozen=True)
class Paces:
    """The measurements of a store."""

    folder: Folder

    def remember(self, given: dict[str, Any], pace: Pace) -> None:
        """Write a measurement down, in place of an older one of the same."""
        content = asdict(pace) | {"conditions": given}
        self.folder.write_json(f"{_key(given)}/{_digest(pace.device)}.json", content)
        self.folder.write_json(f"newest/{_kind(given)}/{_digest(pace.device)}.json", content)

    def recall(self, given: dict[str, Any], *, device: str | None) -> Pace | None:
        """What was measured in exactly these conditions.

        Args:
            given: the conditions.
            device: its name; None: not known yet, and the first by its digest is taken.
        """
        return self._first(_key(given), device)

    def nearest(self, given: dict[str, Any], *, device: str | None) -> Pace | None:
        """The newest of any training in the same precision, on ranks with as many threads or GPUs."""
        return self._first(f"newest/{_kind(given)}", device)

    def _first(self, name: str, device: str | None) -> Pace | None:
        child = self.folder.child(name)
        names = [f"{_digest(device)}.json"] if device else [entry.name for entry in child.files(".json")]
        return next((pace for each in names if (pace := _read(child, each))), None)


@dataclass(frozen=True)
class Expected:
    """How long a step will take, and why that is thought."""

    seconds_per_step: float
    words: str


def expected_pace(
    paces: Paces, given: dict[str, Any], *, device: str | None, flops: float
) -> Expected | None:
    """From a measurement in these conditions; else a guess from the nearest one; None where there is neither.

    Args:
        paces: what was measured.
        given: the conditions.
        device: its name, as far as it is known.
        flops: of a step.
    """
    if pace := paces.recall(given, device=device):
        return Expected(pace.seconds_per_step, pace.words())
    pace = paces.nearest(given, device=device)
    if pace is None:
        return None
    seconds = flops / (pace.flops_per_second * given["resources"]["world_size"])
    reached = f"{pace.flops_per_second / 1e9:,.3g} GFLOP/s a rank, {100 * pace.mfu:.0f}% of the matmul roof"
    return Expected(
        seconds,
        f"a guess: {in_seconds(seconds)} a step at {reached}, which another training has reached on {pace.device}; "
        "`headrace plan --probe` measures it",
    )


def measured_bytes(
    paces: Paces, model: ModelConfig, training: TrainingConfig, resources: Resources, *, device: str | None
) -> float | None:
    """What a rank has held on its device in these resources, and a checkpoint's copy, where that was measured."""
    if offloads_to_disk(resources) and not resources.num_gpus:
        return None  # a CPU rank was counted with what it had mapped of the disk, which needs no memory
    pace = paces.recall(conditions(model, training, resources), device=device)
    if pace is None or not pace.bytes_per_rank:  # a process that held as much before shows nothing of it
        return None
    copies = 0 if resources.num_gpus else memory_with(model, training, resources).copies
    return pace.bytes_per_rank + copies


def cpu_name() -> str:
    """This machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"


def in_seconds(seconds: float) -> str:
    """Of a step: three digits that matter, and a unit that leaves few noughts."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def in_words(seconds: float) -> str:
    """Of a run: 7980 → `2 h 13 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _read(folder: Folder, name: str) -> Pace | None:
    """None where there is none, or where another version of this code wrote it in another form."""
    try:
        content = folder.read_json(name)
        return Pace(**{key: value for key, value in content.items() if key != "conditions"})
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


def _kind(given: dict[str, Any]) -> str:
    same = {
        "precision": given["training"]["precision"],
        "num_gpus": given["resources"]["num_gpus"],
        "cpus_per_worker": given["resources"]["cpus_per_worker"],
    }
    return _key(same)


def _key(given: dict[str, Any]) -> str:
    return _digest(json.dumps(given, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
