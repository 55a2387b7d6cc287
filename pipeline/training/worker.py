"""What each rank does: build, then run. Called by Ray Train in a process group that is already there."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from model.decoder import decoder
from model.flops import flops_per_token, num_parameters
from model.objectives import CausalLM
from model.registry import build_model
from model.weights import load_weights
from pipeline.dag.folder import Folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Channel
from pipeline.training.artifact import write_artifact
from pipeline.training.checkpoint import Manifest, folder_name, newest_whole, restore
from pipeline.training.checkpointer import Checkpointer, Rhythm
from pipeline.training.config import split_batch
from pipeline.training.corpus import open_corpus
from pipeline.training.engine import Engine
from pipeline.training.evaluator import Evaluator
from pipeline.training.fragments import lay_out_matrices, set_weights
from pipeline.training.high_water import HighWater
from pipeline.training.job import TrainingJob, TrainingResult
from pipeline.training.loop import train
from pipeline.training.norms import DEFAULT_EVERY_STEPS, Norms
from pipeline.training.pulse import Phase, Pulse
from pipeline.training.ranks import Ranks, current_ranks
from pipeline.training.recorder import METRICS_FILE, Gauge, Recorder
from pipeline.training.runtime import device_of_rank
from pipeline.training.schedule import learning_rate_at
from pipeline.training.sources import Learned
from pipeline.training.spikes import SpikePolicy
from pipeline.training.throughput import Throughput, measure_matmul_roof
from pipeline.training.trace import Trace
from pipeline.training.watchdog import watched

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


def work(order: Order) -> TrainingResult:
    """Train from the newest whole checkpoint, or from the beginning, to the artifact; all ranks together."""
    ranks, hang_seconds = current_ranks(), order.resources.hang_seconds
    watch = watched(ranks=ranks, scratch=order.scratch, channel=order.channel, hang_seconds=hang_seconds)
    with watch as pulse:
        return _work(order, ranks, pulse)


def _work(order: Order, ranks: Ranks, pulse: Pulse) -> TrainingResult:
    training = order.job.training
    corpus = open_corpus(order.job, lambda text: _tell(order.channel, ranks, text))
    high_water = HighWater(device_of_rank())
    engine = build_engine(order, corpus.learned.vocab_size, ranks)
    engine.pulse = pulse
    recorder = build_recorder(order, engine, corpus.learned, ranks, [engine.timing, high_water])
    first_step = resume(order, engine, recorder, ranks)
    last = corpus.learned.length.num_steps
    evaluator = Evaluator(engine, corpus.held_out, ranks, recorder, training.eval_every_steps, last)
    checkpointer = Checkpointer(engine, order.scratch, ranks, recorder, _rhythm(order, last), first_step)
    if training.spike_policy is SpikePolicy.rewind and first_step == 0:
        checkpointer.save(0)
    recorder.say(f"ready {time.time() - order.ordered_at:.1f} s after the start, at step {first_step}")
    norms_every = order.resources.norms_every_steps or max(DEFAULT_EVERY_STEPS, recorder.every_steps)
    recorder.watchers = [Norms(engine, norms_every, next_step=first_step + 1, last_step=last)]
    trace = Trace(order.resources.profile_steps, ranks, engine.timing, recorder, order.output)
    engine.timing.restart()
    with contextlib.closing(checkpointer):
        train(
            engine,
            corpus.learned.batches,
            steps=trace.through(range(first_step, last)),
            learning_rate_at=partial(learning_rate_at, config=training, length=corpus.learned.length),
            ranks=ranks,
            recorder=recorder,
            evaluator=evaluator,
            checkpointer=checkpointer,
        )
    pulse.enter(Phase.artifact)
    model = order.job.model.with_vocab_size(corpus.learned.vocab_size)
    if ranks.is_first:
        write_artifact(order.job, model, scratch=order.scratch, output=order.output, recorder=recorder)
    ranks.wait()
    counters = {
        "steps": last,
        "tokens": corpus.learned.length.num_tokens,
        "parameters": num_parameters(model),
    }
    return TrainingResult(counters | corpus.learned.counters(), recorder.newest() | corpus.learned.metrics())


def _rhythm(order: Order, last_step: int) -> Rhythm:
    training, resources = order.job.training, order.resources
    every = resources.checkpoint_every_steps or CHECKPOINT_EVERY_STEPS
    if training.spike_policy is SpikePolicy.rewind:  # where a spike goes back to is identity
        every = training.spike_rewind_steps
    return Rhythm(every, last_step, resources.keep_checkpoints_every_steps)


def _tell(channel: Channel, ranks: Ranks, text: str) -> None:
    """A line for the user, once for all ranks."""
    if ranks.is_first:
        channel.send({"kind": "note", "text": text})


def build_engine(order: Order, vocab_size: int, ranks: Ranks) -> Engine:
    """The same fp32 initial weights for every number of ranks and every ZeRO stage."""
    job, resources = order.job, order.resources
    split = split_batch(
        job.training, world_size=ranks.world_size, micro_batch_size=resources.micro_batch_size
    )
    torch.manual_seed(job.training.seed)
    model = decoder(build_model(job.model.with_vocab_size(vocab_size)))
    if job.initial_weights is not None:
        _, weights = load_weights(job.initial_weights.local())
        model.load_state_dict(weights, strict=False)  # a tied head is stored once
    model.activation_checkpointing = bool(resources.activation_checkpointing)
    initial = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    engine = Engine(CausalLM(model), job.training, resources=resources, split=split)
    set_weights(engine, initial)
    lay_out_matrices(engine, ranks)
    return engine


def build_recorder(
    order: Order, engine: Engine, learned: Learned, ranks: Ranks, gauges: Sequence[Gauge]
) -> Recorder:
    training = order.job.training
    roof = measure_matmul_roof(engine.device, training.precision) * ranks.world_size
    flops = flops_per_token(order.job.model.with_vocab_size(learned.vocab_size), training.seq_len)
    throughput = Throughput(training, learned.length.num_steps, flops, roof)
    return Recorder(order.channel, ranks, throughput, order.resources.log_every_steps or 1, gauges)


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
