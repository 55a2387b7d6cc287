"""The shards of a job as batches: one source or a mixture to learn from, and what is held out."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from data.batches import Boundaries, ExampleBatches, PretrainBatches, TrainingBatches
from data.mixture import Mixture, plan_counts
from data.packing import num_packed
from data.shards import TokenShards
from pipeline.dag.folder import Folder
from pipeline.training.evaluator import HeldOut, hold_out
from pipeline.training.job import BatchKind, TrainingJob


@dataclass(frozen=True)
class Corpus:
    """What a job learns from, and what the model must know of it."""

    vocab_size: int
    batches: TrainingBatches
    held_out: HeldOut | None
    counters: dict[str, int] = field(default_factory=dict)
    "Tokens that the whole run takes from each source of a mixture, as tokens/<source>."
    metrics: dict[str, float] = field(default_factory=dict)
    "How often the run sees each source, as epochs/<source>."


def open_corpus(job: TrainingJob) -> Corpus:
    """Raises `DataError` where the tokens are not the tokenizer's, do not fill a sequence, or do not last."""
    training = job.training
    sources = [open_shards((folder,), job.tokenizer_hash) for folder in job.train_tokens.values()]
    per_step, seed = training.sequences_per_step, training.seed
    held_out = _held_out(job)
    if job.batch_kind is BatchKind.examples or len(sources) == 1:
        shards = open_shards(tuple(job.train_tokens.values()), job.tokenizer_hash)
        return Corpus(shards.format.vocab_size, build_batches(job, shards, per_step, seed), held_out)
    TokenShards([path for source in sources for path in source.paths])  # refuses sources that disagree
    sizes = {
        name: num_packed(shards.num_tokens, seq_len=training.seq_len)
        for name, shards in zip(job.train_tokens, sources, strict=True)
    }
    counts = plan_counts(job.mixture, sizes, num_draws=training.num_steps * per_step)
    batches = PretrainBatches(
        sources,
        seq_len=training.seq_len,
        sequences_per_step=per_step,
        seed=seed,
        boundaries=_boundaries(job),
        mixture=Mixture(list(counts.values()), seed=seed),
    )
    return Corpus(
        sources[0].format.vocab_size,
        batches,
        held_out,
        {f"tokens/{name}": count * training.seq_len for name, count in counts.items()},
        {f"epochs/{name}": count / sizes[name] for name, count in counts.items()},
    )


def open_shards(folders: tuple[Folder, ...], tokenizer_hash: str) -> TokenShards:
    paths = [path for folder in folders for path in sorted(folder.local().rglob("tokens-*.arrow"))]
    return TokenShards(paths, tokenizer_hash=tokenizer_hash)


def build_batches(
    job: TrainingJob, shards: TokenShards, sequences_per_step: int, seed: int
) -> TrainingBatches:
    seq_len = job.training.seq_len
    if job.batch_kind is BatchKind.examples:
        pad_id = shards.format.eos_id  # padding has no target and is attended to by nothing that has one
        return ExampleBatches(
            shards, seq_len=seq_len, examples_per_step=sequences_per_step, seed=seed, pad_id=pad_id
        )
    return PretrainBatches(
        [shards],
        seq_len=seq_len,
        sequences_per_step=sequences_per_step,
        seed=seed,
        boundaries=_boundaries(job),
    )


def _held_out(job: TrainingJob) -> HeldOut | None:
    if not job.validation_tokens:
        return None
    shards = open_shards(job.validation_tokens, job.tokenizer_hash)
    return hold_out(
        partial(build_batches, job, shards, seed=0),
        max_sequences=job.training.eval_max_sequences,
        targets_per_byte=_num_targets(job, shards) / max(1, shards.num_bytes),
    )


def _boundaries(job: TrainingJob) -> Boundaries:
    return Boundaries.mask if job.training.mask_documents else Boundaries.ignore


def _num_targets(job: TrainingJob, shards: TokenShards) -> int:
    """Targets of all rows: what bits per byte weigh the mean loss with."""
    if job.batch_kind is BatchKind.examples and shards.loss_mask is not None:
        mask: Any = shards.loss_mask
        return int(mask.sums(shards.row_starts[:-1], shards.row_starts[1:]).sum())
    return shards.num_tokens
