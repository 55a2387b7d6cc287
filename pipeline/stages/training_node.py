"""What the training stages share: from a node's settings and inputs to a job, and what `plan` can say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial

import psutil

from model.config import ModelConfig, config_from_dict
from model.flops import num_parameters
from pipeline.cluster import usable_cores
from pipeline.dag.foresight import Foresight, Source
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Input, Problem, StageContext, StageResult, below, refuse_first
from pipeline.dag.store import Manifest
from pipeline.errors import ConfigError
from pipeline.stages.sharding import ARROW
from pipeline.training.config import Packing, TrainingConfig, folder_problems
from pipeline.training.distillation import teacher_bytes
from pipeline.training.fit import Fit, fitted, memory_with
from pipeline.training.memory import GIB
from pipeline.training.objective import Objective, reported_of
from pipeline.training.pace import (
    Paces,
    conditions,
    cpu_name,
    expected_pace,
    measured_bytes,
    step_flops,
)
from pipeline.training.placement import settled, world_sizes


def training_config(settings: TrainingConfig) -> TrainingConfig:
    """The training fields of a stage, which has them beside its own."""
    return TrainingConfig(**{each.name: getattr(settings, each.name) for each in fields(TrainingConfig)})


def fitting_problems(model: ModelConfig, config: TrainingConfig) -> list[Problem]:
    """What is wrong between a model and the training asked of it."""
    if found := config.model_problems(model, seq_len=config.seq_len):
        return found
    longest = max(config.reads(model, config.seq_len))
    if longest <= model.max_seq_len:
        return []
    what = f"sequences of {longest} tokens do not fit a model of {model.max_seq_len}"
    return [
        Problem("seq_len", what, f"at most {model.max_seq_len}", "shorten them, or raise model.max_seq_len")
    ]


def packing_problems(model: ModelConfig, config: TrainingConfig, packing: Packing) -> list[Problem]:
    """What is wrong between the objective and how documents become sequences."""
    objective = config.objective_of(model)
    if config.mask_documents and objective in (Objective.span_corruption, Objective.seq2seq_lm):
        what = f"{objective.name} has no boundaries of documents inside of a sequence"
        return [Problem("mask_documents", what, "false", "set mask_documents=false")]
    if objective is Objective.span_corruption and packing is not Packing.concatenate:
        what = f"packing {packing.name} leaves padding, of which span_corruption would make spans"
        return [Problem("packing", what, "concatenate", "set packing=concatenate")]
    return []


def resource_problems(config: TrainingConfig, resources: Resources) -> list[Problem]:
    """What is wrong between a training and its resources, as far as that is known before there is a cluster."""
    return folder_problems(resources) or _batch_problems(config, resources)


def _batch_problems(config: TrainingConfig, resources: Resources) -> list[Problem]:
    """A global batch that the ranks or the micro batch cannot divide."""
    if config.problems():
        return []
    try:
        world_sizes(config, resources if resources.num_workers else replace(resources, min_workers=None))
    except ConfigError as error:
        field = error.where.rpartition(".")[2]
        return [Problem(field, error.what, error.allowed, error.do)]
    return []


def estimate(
    model: ModelConfig, config: TrainingConfig, *, vocab_size: int | None, num_sequences: int | None
) -> dict[str, float]:
    """Parameters, steps, tokens, FLOPs; without parameters and FLOPs where the vocabulary is not known yet.

    And without steps, tokens and FLOPs where the length is in epochs of data that is not there yet.
    """
    known = length_estimate(config, num_sequences)
    if model.vocab_size is None and vocab_size is None:
        return known
    return known | work_of(model.with_vocab_size(vocab_size or 0), config, known)


def work_of(model: ModelConfig, config: TrainingConfig, length: Mapping[str, float]) -> dict[str, float]:
    """Parameters, and the FLOPs of a length in which the tokens are known; of a model with its vocabulary."""
    known: dict[str, float] = {"parameters": num_parameters(model)}
    if "tokens" in length:
        known["flops"] = config.flops_per_token(model, config.seq_len) * length["tokens"]
    return known


def foresee(
    model: ModelConfig,
    config: TrainingConfig,
    resources: Resources,
    *,
    estimated: dict[str, float],
    vocab_size: int | None,
    paces: Paces,
    teacher: Sequence[Source] = (),
) -> Foresight:
    """The estimate; GiB of a rank by component; the settings chosen for the memory at hand, and why; the time.

    Raises:
        ConfigError: nothing fits.
    """
    if model.vocab_size is None and vocab_size is None:
        return Foresight(estimated)
    sized = model.with_vocab_size(vocab_size or 0)
    ranks = ranks_here(config, resources)
    taught_by = next((model_of(each) for each in teacher), None)
    taught_by = taught_by and taught_by.with_vocab_size(sized.vocab_size or 0)
    beside = teacher_bytes(taught_by, config) if taught_by else 0
    fit = fit_of(sized, config, ranks, paces, beside=beside)
    memory = fit.memory if fit else memory_with(sized, config, ranks)
    figures = estimated | {f"GiB {name}": size for name, size in memory.in_gib().items()}
    figures |= {"GiB teacher": beside / GIB} if beside else {}
    figures |= {"host GiB": memory.on_host / GIB} if memory.on_host else {}
    figures |= {"disk GiB": memory.on_disk / GIB} if memory.on_disk else {}
    remarks = [fit.words()] if fit else []
    if teacher and not taught_by:
        remarks.append("what the teacher takes is not counted: its shape is known once it is built")
    given = conditions(sized, config, fit.resources if fit else ranks, taught_by)
    flops = step_flops(sized, config, taught_by)
    expected = expected_pace(paces, given, device=_device_name(ranks), flops=flops)
    if expected is None:
        return Foresight(figures, remarks)
    figures["seconds per step"] = expected.seconds_per_step
    seconds = figures["steps"] * expected.seconds_per_step if "steps" in figures else None
    return Foresight(figures, [*remarks, expected.words], seconds)


def model_of(source: Source) -> ModelConfig | None:
    """The model of a training node, as far as that can be told before it is built."""
    if source.folder is not None:
        return config_from_dict(source.folder.read_json("model.json"))
    found = getattr(source.stage, "model", None)
    return found if isinstance(found, ModelConfig) else None


def fit_of(
    model: ModelConfig, config: TrainingConfig, resources: Resources, paces: Paces, *, beside: int = 0
) -> Fit | None:
    """The settings chosen for `num_workers` ranks; None where nobody knows yet what a rank has for memory.

    Args:
        model: with its vocabulary.
        config: what a step takes.
        resources: as asked for.
        paces: what was measured.
        beside: bytes that each rank holds besides, of a teacher.

    Raises:
        ConfigError: nothing fits.
    """
    planned = _planned_device(resources)
    if planned is None:
        return None
    held = partial(measured_bytes, paces, model, config, device=_device_name(resources))
    size, device = planned
    return fitted(model, config, resources, device_bytes=size - beside, device=device, measured=held)


def _device_name(resources: Resources) -> str | None:
    """What ranks will compute on, as far as this machine can tell: which GPUs there will be it cannot."""
    return None if resources.num_gpus or (resources.num_workers or 1) > usable_cores() else cpu_name()


def _planned_device(resources: Resources) -> tuple[float, str] | None:
    """Bytes that a rank has to itself, and of what, as far as this machine can tell beforehand.

    Of GPUs what the recipe says of them; without GPUs an even share of this machine's memory.
    """
    if resources.num_gpus:
        size = resources.gpu_memory_gib
        return (size * GIB * min(1.0, resources.num_gpus), "GPU") if size else None
    ranks = resources.num_workers or 1
    if ranks > usable_cores():
        return None  # another machine's ranks
    return psutil.virtual_memory().total / ranks, "rank's share of the machine"


def length_estimate(config: TrainingConfig, num_sequences: int | None) -> dict[str, float]:
    """Steps and tokens, as far as they are known."""
    length = config.length(num_sequences=num_sequences)
    return {"steps": length.num_steps, "tokens": length.num_tokens} if length else {}


def sequences_ahead(
    references: Sequence[str], manifests: Sequence[Manifest], *, seq_len: int, packing: Packing | None
) -> int | None:
    """About how many sequences the built tokens make; None where some are not built yet.

    A part's tokens are taken to be as many as its share of the bytes; the padding of best_fit is not foreseen.
    """
    if len(manifests) < len(references):
        return None
    unit = "tokens" if packing in (Packing.concatenate, Packing.best_fit) else "rows"
    counts = []
    for reference, manifest in zip(references, manifests, strict=True):
        share = manifest.num_bytes(reference.partition("/")[2]) / max(1, manifest.num_bytes(""))
        counts.append(round(manifest.counters.get(unit, 0) * share))
    return sum(counts) // (seq_len if unit == "tokens" else 1)


def are_examples(tokens: Input) -> bool:
    """Whether rows have a prompt and a response, of which targets are counted, or are documents."""
    return "targets" in tokens.manifest.counters


def reported_metrics(objective: Objective, *, held_out: bool) -> tuple[str, ...]:
    """What a training reports that a search may decide by; `held_out`: whether it has text to evaluate on."""
    return (
        "train/loss",
        *(reported_of(objective) if held_out else ()),
        "train/tokens_per_second",
    )


def ranks_here(config: TrainingConfig, resources: Resources) -> Resources:
    """With the ranks and threads asked for, or those that a run on this machine's cores would get."""
    here = usable_cores()
    ranks = resources.num_workers
    if ranks is None:
        found = settled(
            replace(resources, num_gpus=0), {"CPU": float(here)}, sequences_per_step=config.sequences_per_step
        )
        ranks = found.num_workers or 1
    threads = resources.cpus_per_worker or max(1, here // ranks)
    return replace(resources, num_workers=ranks, cpus_per_worker=threads)


def vocabulary(inputs: Mapping[str, Sequence[Manifest]]) -> int | None:
    """The tokenizer's size, once it is built."""
    return next((each.counters["vocab_size"] for each in inputs.get("tokenizer", [])), None)


def require_shards(given: Sequence[Input], *, node: str, port: str) -> None:
    """Refuse a node or part without token shards before any rank is started.

    Raises:
        ConfigError: there is none, with the parts that have some.
    """
    for each in given:
        shards = [file.name for file in each.manifest.files if file.name.endswith(ARROW)]
        parts = sorted({name.partition("/")[0] for name in shards if "/" in name})
        if not each.part and parts:
            raise ConfigError(
                f'"{each.node}" is divided into {", ".join(parts)}, and training takes one of them',
                where=f"stages.{node}.inputs.{port}",
                allowed=", ".join(f"{each.node}/{part}" for part in parts),
                do=f"set stages.{node}.inputs.{port}={each.node}/{parts[0]}",
            )


def checked_vocabulary(model: ModelConfig, size: int, *, node: str) -> None:
    """Raises ConfigError where the model has fewer rows than the tokenizer has ids."""
    refuse_first(below(f"stages.{node}.model", model.vocab_problems(size)))


def train(context: StageContext, job: object, *, vocab_size: int) -> StageResult:
    """Launch the job with the node's resources."""
    from pipeline.training.job import Places, TrainingJob
    from pipeline.training.workers import launch

    assert isinstance(job, TrainingJob)
    result = launch(
        job,
        resources=context.resources,
        channel=context.channel,
        places=Places(context.scratch, context.output, context.measured),
        vocab_size=vocab_size,
        stop=context.stop,
    )
    return StageResult(result.counters, result.metrics)
