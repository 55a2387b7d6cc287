"""What each rank does: build, then run. Called by Ray Train in a process group that is already there."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from data.batches import Boundaries, ExampleBatches, PretrainBatches, TrainingBatches
from data.shards import TokenShards
from model.flops import flops_per_token, num_parameters
from model.objectives import CausalLM
from model.registry import build_model
from model.weights import load_weights
from pipeline.dag.folder import Folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Channel
from pipeline.training.artifact import write_artifact
from pipeline.training.checkpoint import Checkpointer, Manifest, folder_name, newest_whole, restore
from pipeline.training.config import split_batch
from pipeline.training.engine import Engine
from pipeline.training.evaluator import Evaluator, HeldOut, hold_out
from pipeline.training.fragments import set_weights
from pipeline.training.job import BatchKind, TrainingJob, TrainingResult
from pipeline.training.loop import train
from pipeline.training.ranks import Ranks, current_ranks
from pipeline.training.recorder import METRICS_FILE, Recorder
from pipeline.training.throughput import Throughput, measure_matmul_roof

CHECKPOINT_EVERY_STEPS = 50


@dataclass(frozen=True)
class Order:
    """A job with everything circumstantial around it; picklable."""

    job: TrainingJob
    resources: Resources
    channel: Channel
    scratch: Folder
    output: Folder
    ordered_at: float
    "Seconds since the epoch, for the time until the first step."


@dataclass(frozen=True)
class Corpus:
    """The shards of a job as batches, and what the model must know of them."""

    vocab_size: int
    batches: TrainingBatches
    held_out: HeldOut | None


def work(order: Order) -> TrainingResult:
    """Train from the newest whole checkpoint, or from the beginning, to the artifact; all ranks together."""
    ranks = current_ranks()
    training = order.job.training
    corpus = open_corpus(order.job)
    engine = build_engine(order, corpus.vocab_size, ranks)
    recorder = build_recorder(order, engine, corpus.vocab_size, ranks)
    first_step = resume(order, engine, recorder, ranks)
    last = training.num_steps
    evaluator = Evaluator(engine, corpus.held_out, ranks, recorder, training.eval_every_steps, last)
    every = order.resources.checkpoint_every_steps or CHECKPOINT_EVERY_STEPS
    checkpointer = Checkpointer(engine, order.scratch, ranks, recorder, every, last)
    recorder.say(f"ready {time.time() - order.ordered_at:.1f} s after the start, at step {first_step}")
    train(
        engine,
        corpus.batches,
        config=training,
        ranks=ranks,
        first_step=first_step,
        recorder=recorder,
        evaluator=evaluator,
        checkpointer=checkpointer,
    )
    model = order.job.model.with_vocab_size(corpus.vocab_size)
    if ranks.is_first:
        write_artifact(order.job, model, scratch=order.scratch, output=order.output, recorder=recorder)
    ranks.wait()
    counters = {"steps": last, "tokens": training.num_tokens, "parameters": num_parameters(model)}
    return TrainingResult(counters, recorder.newest())


def open_corpus(job: TrainingJob) -> Corpus:
    """Raises `DataError` where the tokens are not the tokenizer's, or do not fill a sequence."""
    training = job.training
    shards = open_shards(job.train_tokens, job.tokenizer_hash)
    batches = build_batches(job, shards, training.sequences_per_step, training.seed)
    if not job.validation_tokens:
        return Corpus(shards.format.vocab_size, batches, None)
    held_out_shards = open_shards(job.validation_tokens, job.tokenizer_hash)
    held_out = hold_out(
        partial(build_batches, job, held_out_shards, seed=0),
        max_sequences=training.eval_max_sequences,
        targets_per_byte=_num_targets(job, held_out_shards) / max(1, held_out_shards.num_bytes),
    )
    return Corpus(shards.format.vocab_size, batches, held_out)


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
    boundaries = Boundaries.mask if job.training.mask_documents else Boundaries.ignore
    return PretrainBatches(
        shards, seq_len=seq_len, sequences_per_step=sequences_per_step, seed=seed, boundaries=boundaries
    )


def build_engine(order: Order, vocab_size: int, ranks: Ranks) -> Engine:
    """The same fp32 initial weights for every number of ranks and every ZeRO stage."""
    job, resources = order.job, order.resources
    split = split_batch(
        job.training, world_size=ranks.world_size, micro_batch_size=resources.micro_batch_size
    )
    torch.manual_seed(job.training.seed)
    model = build_model(job.model.with_vocab_size(vocab_size))
    if job.initial_weights is not None:
        _, weights = load_weights(job.initial_weights.local())
        model.load_state_dict(weights, strict=False)  # a tied head is stored once
    model.activation_checkpointing = bool(resources.activation_checkpointing)
    initial = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    engine = Engine(CausalLM(model), job.training, resources=resources, split=split)
    set_weights(engine, initial)
    return engine


def build_recorder(order: Order, engine: Engine, vocab_size: int, ranks: Ranks) -> Recorder:
    training = order.job.training
    roof = measure_matmul_roof(engine.device, training.precision) * ranks.world_size
    model = order.job.model.with_vocab_size(vocab_size)
    throughput = Throughput(training, flops_per_token(model, training.seq_len), roof)
    return Recorder(order.channel, ranks, throughput, order.resources.log_every_steps or 1)


def resume(order: Order, engine: Engine, recorder: Recorder, ranks: Ranks) -> int:
    """The step to go on from: that of the newest whole checkpoint, or 0."""
    manifest, notes = newest_whole(order.scratch, ranks)
    for note in notes:
        recorder.say(note)
    if manifest is None:
        return 0
    step = _restored(order.scratch, engine, recorder, manifest)
    recorder.say(f"resumed from the checkpoint of step {step}")
    return step


def _restored(scratch: Folder, engine: Engine, recorder: Recorder, manifest: Manifest) -> int:
    restore(engine, scratch, manifest)
    step = int(manifest["step"])
    recorder.restore(scratch.read_bytes(f"{folder_name(step)}/{METRICS_FILE}"))
    return step


def _num_targets(job: TrainingJob, shards: TokenShards) -> int:
    """Targets of all rows: what bits per byte weigh the mean loss with."""
    if job.batch_kind is BatchKind.examples and shards.loss_mask is not None:
        mask: Any = shards.loss_mask
        return int(mask.sums(shards.row_starts[:-1], shards.row_starts[1:]).sum())
    return shards.num_tokens
