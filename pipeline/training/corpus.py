"""The tokens of a job: what it learns from, and what is held out."""

from dataclasses import dataclass
from typing import Any

from data.batches import Corruption
from data.shards import TokenShards
from data.tokenizer import Tokenizer
from pipeline.training.corruption import corruption_of
from pipeline.training.evaluator import HeldOut, hold_out
from pipeline.training.examples import pool_of_examples
from pipeline.training.job import TrainingJob
from pipeline.training.objective import Objective
from pipeline.training.sources import Learned, PoolOfExamples, Tell, build_pool, open_shards, open_sources


@dataclass(frozen=True)
class Corpus:
    learned: Learned
    held_out: HeldOut | None


@dataclass(frozen=True)
class Reading:
    """How an objective reads sequences, with the ids of the tokenizer."""

    corruption: Corruption | None = None
    "What becomes of each; None: nothing."
    pool_of_examples: PoolOfExamples | None = None
    "Sequences of examples, where an example is not one text."


def open_corpus(job: TrainingJob, tell: Tell) -> Corpus:
    """Raises `DataError` as `open_sources` does."""
    reading = _reading(job)
    learned = open_sources(
        job.train_tokens,
        job.training,
        packing=job.packing,
        mixture=job.mixture,
        tokenizer_hash=job.tokenizer_hash,
        tell=tell,
        corruption=reading.corruption,
        pool_of_examples=reading.pool_of_examples,
    )
    return Corpus(learned, _held_out(job, tell, reading))


def _reading(job: TrainingJob) -> Reading:
    objective = job.training.objective_of(job.model)
    if objective is Objective.causal_lm:
        return Reading()
    tokenizer = Tokenizer.load(job.tokenizer.local())
    corruption = corruption_of(job.training, job.model, tokenizer, packing=job.packing)
    return Reading(
        corruption, pool_of_examples(objective, job.model, tokenizer, seq_len=job.training.seq_len)
    )


def _held_out(job: TrainingJob, tell: Tell, reading: Reading) -> HeldOut | None:
    if job.validation_tokens is None:
        return None
    shards = open_shards(job.validation_tokens, job.tokenizer_hash, tell)
    return hold_out(
        build_pool(shards, job.training, job.packing, reading.pool_of_examples),
        max_sequences=job.training.eval_max_sequences,
        targets_per_byte=_num_targets(job, shards) / max(1, shards.num_bytes),
        corruption=reading.corruption,
        objective=job.training.objective_of(job.model),
    )


def _num_targets(job: TrainingJob, shards: TokenShards) -> int:
    """Targets of all rows: what bits per byte weigh the mean loss with."""
    if job.packing is None and shards.loss_mask is not None:
        mask: Any = shards.loss_mask
        return int(mask.sums(shards.row_starts[:-1], shards.row_starts[1:]).sum())
    return shards.num_tokens
