"""What each rank does: build, then run. Called by Ray Train in a process group that is already there."""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch

from model.config import ModelConfig
from model.distillation import Teacher
from model.flops import num_parameters
from model.objectives import build_objective
from model.recompute import Recompute
from model.registry import build_model
from model.weights import load_config, load_model, load_weights
from pipeline.dag.folder import Folder
from pipeline.dag.resources import Recomputation, Resources
from pipeline.dag.stage import Channel
from pipeline.training.artifact import write_artifact
from pipeline.training.beginning import begin_embedding, check_origin, origin_of
from pipeline.training.checkpoint import Manifest, folder_name, newest_whole, restore
from pipeline.training.checkpointer import Checkpointer, Rhythm
from pipeline.training.compiling import compile_blocks, is_compiled
from pipeline.training.config import TrainingConfig, split_batch
from pipeline.training.corpus import Corpus, open_corpus
from pipeline.training.departure import Departure, Notice
from pipeline.training.engine import Engine
from pipeline.training.evaluator import Evaluator
from pipeline.training.fragments import lay_out_matrices, set_weights
from pipeline.training.high_water import HighWater
from pipeline.training.job import TrainingJob, TrainingResult
from pipeline.training.loop import train
from pipeline.training.norms import DEFAULT_EVERY_STEPS, Norms
from pipeline.training.outset import FirstSteps, Outset
from pipeline.training.pace import Paces
from pipeline.training.pulse import Phase, Pulse
from pipeline.training.ranks import Ranks, current_ranks
from pipeline.training.recorder import METRICS_FILE, Gauge, Recorder, tell
from pipeline.training.runtime import device_of_rank, import_deepspeed
from pipeline.training.schedule import learning_rate_at
from pipeline.training.sources import Learned
from pipeline.training.spikes import SpikePolicy
from pipeline.training.throughput import DTYPES, Throughput, measure_matmul_roof
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
    notice: Callable[[], Notice | None] | None = None
    "What this rank is told from outside; None: nothing ever."
    measured: Folder | None = None
    "Where what the first steps took is remembered."


def work(order: Order) -> TrainingResult:
    """Train from the newest whole checkpoint, or from the beginning, to the artifact; all ranks together."""
    ranks = current_ranks()
    with watch(order, ranks) as pulse:
        return _work(order, ranks, pulse)


def watch(order: Order, ranks: Ranks) -> AbstractContextManager[Pulse]:
    """Within, a rank that hangs is found."""
    hang_seconds = order.resources.hang_seconds
    return watched(ranks=ranks, scratch=order.scratch, channel=order.channel, hang_seconds=hang_seconds)


def measure_first_steps(
    order: Order, model: ModelConfig, ranks: Ranks, high_water: HighWater, roof: float
) -> FirstSteps:
    """What is to be offered each step; `model` with its vocabulary, `roof` of all ranks."""
    paces = Paces(order.measured) if order.measured else None
    teacher = load_config(order.job.teacher.local()) if order.job.teacher else None
    return FirstSteps(model, order.job.training, order.resources, ranks, high_water, roof, paces, teacher)


def _work(order: Order, ranks: Ranks, pulse: Pulse) -> TrainingResult:
    training = assemble(order, ranks, pulse)
    learned, recorder = training.corpus.learned, training.recorder
    recorder.say(_ready(order, ranks, training.first_step))
    trace = Trace(order.resources.profile_steps, ranks, training.engine.timing, recorder, order.output)
    departure = Departure(training.checkpointer, recorder, learned.length.num_steps, order.notice)
    training.run(departure.through(trace.through(range(training.first_step, learned.length.num_steps))))
    pulse.enter(Phase.artifact)
    model = order.job.model.with_vocab_size(learned.vocab_size)
    if ranks.is_first:
        trained = order.job.training.trained(model)
        write_artifact(order.job, trained, scratch=order.scratch, output=order.output, recorder=recorder)
    ranks.wait()
    counters = {
        "steps": learned.length.num_steps,
        "tokens": learned.length.num_tokens,
        "parameters": num_parameters(model),
    }
    return TrainingResult(counters | learned.counters(), recorder.newest() | learned.metrics())


@dataclass(frozen=True)
class Training:
    """All that the loop works with, as the newest checkpoint has it."""

    config: TrainingConfig
    corpus: Corpus
    engine: Engine
    ranks: Ranks
    recorder: Recorder
    evaluator: Evaluator
    checkpointer: Checkpointer
    first_step: int

    def run(self, steps: Iterable[int]) -> None:
        """Train these steps."""
        learned = self.corpus.learned
        self.engine.timing.restart()
        with contextlib.closing(self.checkpointer):
            train(
                self.engine,
                learned.batches,
                steps=steps,
                learning_rate_at=partial(learning_rate_at, config=self.config, length=learned.length),
                ranks=self.ranks,
                recorder=self.recorder,
                evaluator=self.evaluator,
                checkpointer=self.checkpointer,
            )


def assemble(order: Order, ranks: Ranks, pulse: Pulse) -> Training:
    """Build everything, and go back to the newest whole checkpoint if there is one; all ranks together."""
    config, resources = order.job.training, order.resources
    corpus = open_corpus(order.job, lambda text: tell(order.channel, ranks, text))
    import_deepspeed()  # what it holds is no part of the training's memory
    high_water = HighWater(device_of_rank())
    engine = build_engine(order, corpus.learned.vocab_size, ranks)
    engine.pulse = pulse
    recorder = build_recorder(order, engine, corpus.learned, ranks, [engine.timing, high_water])
    if _compiles(order, engine, corpus.learned):
        compile_blocks(engine.model)
        if engine.teacher and engine.teacher.model.can_be_compiled:
            compile_blocks(engine.teacher.model)
        recorder.say("the model is compiled in its first step, which takes up to a minute")
    first_step, last = resume(order, engine, recorder, ranks), corpus.learned.length.num_steps
    evaluator = Evaluator(engine, corpus.held_out, ranks, recorder, config.eval_every_steps, last)
    rhythm, origin = _rhythm(order, last), origin_of(order.job)
    checkpointer = Checkpointer(engine, order.scratch, ranks, recorder, rhythm, first_step, origin)
    if config.spike_policy is SpikePolicy.rewind and first_step == 0:
        checkpointer.save(0)
    norms_every = resources.norms_every_steps or max(DEFAULT_EVERY_STEPS, recorder.every_steps)
    model = order.job.model.with_vocab_size(corpus.learned.vocab_size)
    first_steps = measure_first_steps(order, model, ranks, high_water, recorder.throughput.roof)
    recorder.watchers = [
        Norms(engine, norms_every, next_step=first_step + 1, last_step=last),
        Outset(first_steps, recorder, last_step=last, first_step=first_step),
    ]
    return Training(config, corpus, engine, ranks, recorder, evaluator, checkpointer, first_step)


def _compiles(order: Order, engine: Engine, learned: Learned) -> bool:
    model = order.job.model.with_vocab_size(learned.vocab_size)
    each = order.job.training.flops_per_token(model, learned.seq_len)
    flops = each * learned.length.num_tokens / engine.split.world_size
    return is_compiled(
        engine.model,
        order.resources,
        zero_stage=engine.stage,
        flops_of_rank=flops,
        device=engine.device,
    )


def _ready(order: Order, ranks: Ranks, first_step: int) -> str:
    words = f"ready {time.time() - order.ordered_at:.1f} s after the start, at step {first_step}"
    if order.resources.min_workers is None:
        return words
    most, stage = order.resources.num_workers, order.resources.zero_stage
    micro = order.resources.micro_batch_size
    return f"{words}, on {ranks.world_size} of {most} ranks (ZeRO {stage}, a micro batch of {micro})"


def _rhythm(order: Order, last_step: int) -> Rhythm:
    training, resources = order.job.training, order.resources
    every = resources.checkpoint_every_steps or CHECKPOINT_EVERY_STEPS
    if training.spike_policy is SpikePolicy.rewind:  # where a spike goes back to is identity
        every = training.spike_rewind_steps
    return Rhythm(every, last_step, resources.keep_checkpoints_every_steps)


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
    if job.embedding is not None:
        begin_embedding(model.embedding.weight, job.embedding)
    again = resources.activation_checkpointing or Recomputation.none
    model.activation_checkpointing = None if again is Recomputation.none else Recompute[again.name]
    initial = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    name = job.training.objective_of(job.model).name
    objective = build_objective(name, model, label_smoothing=job.training.label_smoothing)
    engine = Engine(objective, job.training, resources=resources, split=split)
    set_weights(engine, initial)
    lay_out_matrices(engine, ranks)
    if job.teacher is not None:
        engine.teacher = _teacher(job.teacher, engine)
    return engine


def _teacher(weights: Folder, engine: Engine) -> Teacher:
    """Whole on every rank, in the precision of what is trained. DeepSpeed, which trains and shards, never sees it."""
    dtype = DTYPES[engine.config.precision]
    model = load_model(weights.local()).to(engine.device, dtype).requires_grad_(False)  # noqa: FBT003
    return Teacher(model, **vars(engine.config.distillation))


def build_recorder(
    order: Order, engine: Engine, learned: Learned, ranks: Ranks, gauges: Sequence[Gauge]
) -> Recorder:
    training = order.job.training
    roof = measure_matmul_roof(engine.device, training.precision) * ranks.world_size
    model = order.job.model.with_vocab_size(learned.vocab_size)
    flops = training.flops_per_token(model, training.seq_len)
    throughput = Throughput(training, learned.length.num_steps, flops, roof)
    return Recorder(order.channel, ranks, throughput, order.resources.log_every_steps or 1, gauges)


def resume(order: Order, engine: Engine, recorder: Recorder, ranks: Ranks) -> int:
    """The step to go on from: that of the newest whole checkpoint, or 0.

    Raises:
        StageFailedError: that checkpoint is another training's.
    """
    manifest, notes = newest_whole(order.scratch, ranks)
    for note in notes:
        recorder.say(note)
    if manifest is None:
        return 0
    check_origin(order.job, manifest.get("origin", {}), scratch=order.scratch, step=int(manifest["step"]))
    step = _restored(order.scratch, engine, recorder, manifest)
    recorder.say(f"resumed from the checkpoint of step {step}")
    return step


def _restored(scratch: Folder, engine: Engine, recorder: Recorder, manifest: Manifest) -> int:
    restore(engine, scratch, manifest)
    step = int(manifest["step"])
    recorder.restore(scratch.read_bytes(f"{folder_name(step)}/{METRICS_FILE}"))
    return step
