"""Whether a training may begin from what it is given: weights of its model and tokenizer, checkpoints of its own."""

from typing import Any

import torch
from torch import Tensor

from data.tokenizer import Tokenizer
from model.config import ModelConfig
from model.weights import check_state_dict, expected_shapes, load_config
from pipeline.dag.arrays import load_array
from pipeline.dag.folder import Folder
from pipeline.dag.stage import refuse_first
from pipeline.errors import ConfigError, StageFailedError
from pipeline.training.distillation import teacher_problems
from pipeline.training.job import TrainingJob


def check_job(job: TrainingJob, *, vocab_size: int) -> None:
    """What is wrong between the parts of a job, before a rank is started.

    Raises:
        ConfigError: sequences longer than the model's; initial weights of another model, or of another tokenizer; a
            teacher that knows something else.
    """
    model = job.model.with_vocab_size(vocab_size)
    refuse_first(job.training.model_problems(model, seq_len=job.training.seq_len))
    longest = max(job.training.reads(model, job.training.seq_len))
    if longest > model.max_seq_len:
        raise ConfigError(
            f"sequences of {longest} tokens do not fit a model of {model.max_seq_len}",
            where="seq_len",
            allowed=f"at most {model.max_seq_len}",
            do="set a smaller seq_len, or begin from a model with a larger max_seq_len",
        )
    if job.initial_weights is not None:
        _check_initial(job, job.initial_weights, model)
    if job.teacher is not None:
        refuse_first(teacher_problems(model, load_config(job.teacher.local()), job.training))
        _check_tokenizer(job, job.teacher, "a teacher")


def _check_initial(job: TrainingJob, initial: Folder, model: ModelConfig) -> None:
    given = initial.local()
    shapes = expected_shapes(load_config(given))
    try:
        check_state_dict(model, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    except ValueError as error:
        raise ConfigError(
            f"the weights to begin from are of another model: {error}",
            where=f"inputs ({initial.url})",
            allowed="weights of a model with the same names and shapes",
            do="set the model's fields to those in its model.json, or begin from other weights",
        ) from error
    _check_tokenizer(job, initial, "weights to begin from")


def _check_tokenizer(job: TrainingJob, weights: Folder, what: str) -> None:
    path = weights.local() / "tokenizer"
    if path.exists() and (found := Tokenizer.load(path).hash) != job.tokenizer_hash:
        raise ConfigError(
            f"{what} of another tokenizer: {found[:12]}, and the tokens are of {job.tokenizer_hash[:12]}",
            where=f"inputs ({weights.url})",
            allowed="weights and tokens of one tokenizer",
            do="tokenize with the tokenizer of those weights, or take weights of this one",
        )


EMBEDDING_IDS, EMBEDDING_ROWS = "ids", "rows"


def begin_embedding(weight: Tensor, given: Folder) -> None:
    """Lay word vectors [num, hidden_size] into rows of the token embedding [V, hidden_size], in place.

    One factor takes them all to the root mean square of what was drawn: so the logits of a tied head, and the
    gradients of the first steps, are of the size that the initialisation is made for. Directions stay.
    """
    ids, rows = (torch.from_numpy(load_array(given, name)) for name in (EMBEDDING_IDS, EMBEDDING_ROWS))
    with torch.no_grad():
        size = rows.square().mean().sqrt()
        scale = weight.square().mean().sqrt() / size if size else 1.0
        weight[ids] = (rows * scale).to(weight.dtype)


def origin_of(job: TrainingJob) -> dict[str, Any]:
    """What every checkpoint of a training says of it; JSON can hold it."""
    return {
        "model": job.model.to_dict(),
        "tokenizer": job.tokenizer_hash,
        "precision": job.training.precision.name,
    }


def check_origin(job: TrainingJob, found: dict[str, Any], *, scratch: Folder, step: int) -> None:
    """Refuse a checkpoint that another training left; one that says nothing of it is taken as ours.

    Raises:
        StageFailedError: what differs.
    """
    for what, mine in origin_of(job).items():
        theirs = found.get(what, mine)
        if what == "model" and theirs.get("architecture") == job.model.architecture:
            theirs = type(job.model)().to_dict() | theirs  # an older one lacks fields that came later
        if theirs != mine:
            raise StageFailedError(
                f"the checkpoint of step {step} is of another {what}: {_difference(theirs, mine)}",
                where=scratch.url,
                allowed="checkpoints that this very training has left",
                do="move it away; training then goes on from its own, or begins again",
            )


def _difference(theirs: Any, mine: Any) -> str:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        names = sorted(name for name in {*theirs, *mine} if theirs.get(name) != mine.get(name))
        return ", ".join(f"{name} {theirs.get(name)} for {mine.get(name)}" for name in names)
    return f"{theirs} for {mine}"
