"""The tokens of a job: what it learns from, and what is held out."""

from dataclasses import dataclass
from typing import Any

from data.shards import TokenShards
from pipeline.training.evaluator import HeldOut, hold_out
from pipeline.training.job import TrainingJob
from pipeline.training.sources import Learned, Tell, build_pool, open_shards, open_sources


@dataclass(frozen=True)
class Corpus:
    learned: Learned
    held_out: HeldOut | None


def open_corpus(job: TrainingJob, tell: Tell) -> Corpus:
    """Raises `DataError` as `open_sources` does."""
    learned = open_sources(
        job.train_tokens,
        job.training,
        packing=job.packing,
        mixture=job.mixture,
        tokenizer_hash=job.tokenizer_hash,
        tell=tell,
    )
    return Corpus(learned, _held_out(job, tell))


def _held_out(job: TrainingJob, tell: Tell) -> HeldOut | None:
    if job.validation_tokens is None:
        return None
    shards = open_shards(job.validation_tokens, job.tokenizer_hash, tell)
    return hold_out(
        build_pool(shards, job.training, job.packing),
        max_sequences=job.training.eval_max_sequences,
        targets_per_byte=_num_targets(job, shards) / max(1, shards.num_bytes),
    )


def _num_targets(job: TrainingJob, shards: TokenShards) -> int:
    """Targets of all rows: what bits per byte weigh the mean loss with."""
    if job.packing is None and shards.loss_mask is not None:
        mask: Any = shards.loss_mask
        return int(mask.sums(shards.row_starts[:-1], shards.row_starts[1:]).sum())
    return shards.num_tokens
