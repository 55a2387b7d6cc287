"""What a rank must hold while training, counted from the configs alone: for `headrace plan`. Torch-free.

P parameters, N ranks; the terms are those of ZeRO (Rajbhandari et al. 2019, section 5) with DeepSpeed's buffers as its
source allocates them. Activations are counted in `pipeline.training.activations`.
"""

from dataclasses import dataclass, replace

from model.config import ModelConfig
from model.flops import num_block_parameters, num_parameters
from pipeline.dag.resources import Recomputation
from pipeline.training.activations import activation_bytes
from pipeline.training.config import WEIGHTS_STAGE, BatchSplit, OptimizerKind, Precision, TrainingConfig

GIB = 1 << 30
FP32, HALF = 4, 2
HEAD_CHUNK_LOGITS, HEAD_CHUNK_TOKENS = {"cpu": 1 << 23, "accelerator": 1 << 26}, 256
"""Logits that the vocabulary head holds at once, by device, or tokens of them, if that is more: see `model.head`."""
REDUCE_BUCKET = 200_000_000
"""Gradients that DeepSpeed gathers before it sends them to the other ranks, at most: its reduce_bucket_size."""
EXCHANGED_AT_ONCE = 500_000_000
"""Gradients that DeepSpeed copies together to send them at the end of a step, at most: MEMORY_OPT_ALLREDUCE_SIZE."""
LIVE_PARAMETERS = 10**9
"""ZeRO-3 gathers at most so many parameters at a time (DeepSpeed's stage3_max_live_parameters)."""


PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "buckets", "update", "copies")


@dataclass(frozen=True)
class Memory:
    """Bytes that one rank holds, by component."""

    weights: int
    "What forward and backward compute with."
    gradients: int
    optimizer: int
    "fp32 weights, where they are kept apart, and the states."
    activations: int
    "Kept from forward to backward for one micro batch."
    logits: int
    "One chunk of the vocabulary head, its gradient of the weight, and a chunk's part of that."
    buckets: int = 0
    "Where gradients are put before they are sent to other ranks or sorted."
    update: int = 0
    "What the update takes, once activations and logits are gone, beyond what they have left."
    copies: int = 0
    "Weights and states as a checkpoint takes them, in the host's memory."
    on_host: int = 0
    "Of these, what lies in the host's memory while the rest is on a GPU."
    offloaded: int = 0
    "Of these, fp32 weights, states and parameters that are offloaded: what a folder on a disk can hold."
    on_disk: int = 0
    "Of these, what lies in such a folder, neither on the device nor in the host's memory."

    @property
    def total(self) -> int:
        return sum(getattr(self, name) for name in PARTS)

    @property
    def on_device(self) -> int:
        return self.total - self.on_host - self.on_disk

    def with_folder(self) -> "Memory":
        """The same with what is offloaded, and the copies, in a folder on a disk."""
        moved = self.offloaded + self.copies
        return replace(self, on_host=max(0, self.on_host - moved), on_disk=moved)

    def in_gib(self) -> dict[str, float]:
        """The components and their total in GiB."""
        return {name: getattr(self, name) / GIB for name in (*PARTS, "total")}


def memory_of_rank(
    model: ModelConfig,
    config: TrainingConfig,
    split: BatchSplit,
    *,
    zero_stage: int,
    offload_optimizer: bool = False,
    offload_parameters: bool = False,
    recomputation: Recomputation = Recomputation.none,
    on_gpu: bool = False,
) -> Memory:
    """What one rank holds at its peak; `model.vocab_size` must be known."""
    count = num_parameters(model)
    wide = FP32 if config.precision is Precision.fp32 else HALF
    weights = _weights(count, wide, zero_stage, split.world_size)
    in_place = wide == FP32 and zero_stage < WEIGHTS_STAGE and not (offload_optimizer and zero_stage > 0)
    master = 0 if in_place else count
    optimizer = FP32 * -(-(master + _states(model, config)) // (split.world_size if zero_stage > 0 else 1))
    activations = activation_bytes(model, config, split.micro_batch_size, wide, recomputation, on_gpu=on_gpu)
    logits = _logits(model, wide, on_gpu=on_gpu)
    update = max(0, _update(model, config, wide, zero_stage, split.world_size) - activations - logits)
    copies = FP32 * -(-(count + _states(model, config)) // split.world_size)
    offloaded, sums = 0, 0
    if offload_optimizer and zero_stage > 0:  # a rank's own fp32 gradients go where they are used
        offloaded += optimizer
        sums = update + (FP32 * -(-count // split.world_size) if zero_stage > 1 else 0)
    if offload_parameters and zero_stage == WEIGHTS_STAGE:
        offloaded += wide * count // split.world_size
    return Memory(
        weights=weights,
        gradients=_gradients(count, zero_stage, split.world_size),
        optimizer=optimizer,
        activations=activations,
        logits=logits,
        buckets=_buckets(
            count, wide, zero_stage, split.world_size, before=_head_work(model, wide, on_gpu=on_gpu)
        ),
        update=update,
        copies=copies,
        on_host=copies + offloaded + sums if on_gpu else 0,
        offloaded=offloaded,
    )


def _weights(count: int, wide: int, stage: int, ranks: int) -> int:
    if stage < WEIGHTS_STAGE or ranks == 1:  # a single rank's partition is the weights: nothing is gathered
        return wide * count
    return wide * (-(-count // ranks) + min(count, LIVE_PARAMETERS))


def _gradients(count: int, stage: int, ranks: int) -> int:
    """The fp32 sums over micro-steps; what backward writes goes into them, or into the bucket, at once.

    At stages 2 and 3 a rank keeps its own part of the sums.
    """
    if stage < 2:  # noqa: PLR2004
        return FP32 * count
    return FP32 * -(-count // ranks)


def _states(model: ModelConfig, config: TrainingConfig) -> int:
    """Values that the optimizer keeps for all parameters; the few vectors of a block count as its matrices do."""
    count, blocks = num_parameters(model), num_block_parameters(model)
    average = count if config.ema_decay else 0
    return (
        average
        + {
            OptimizerKind.adamw: 2 * count,
            OptimizerKind.sgd: count if config.momentum else 0,
            OptimizerKind.lion: count,
            OptimizerKind.muon: blocks + 2 * (count - blocks),
        }[config.optimizer]
    )


def _logits(model: ModelConfig, wide: int, *, on_gpu: bool) -> int:
    """The head's work: its fp32 gradient, and the most that comes on top of it.

    In the forward pass that is a chunk of logits and of their gradients, the chunk's fp32 probabilities, and its part
    of the weight's gradient; where the backward pass begins, the gradient once more, scaled.
    """
    assert model.vocab_size is not None, "vocab_size must be known before memory is counted"
    if not model.has_lm_head:
        return 0
    return (FP32 + wide) * model.vocab_size * model.hidden_size + _head_work(model, wide, on_gpu=on_gpu)


def _head_work(model: ModelConfig, wide: int, *, on_gpu: bool) -> int:
    """What of it is gone when the blocks' backward pass begins."""
    assert model.vocab_size is not None
    if not model.has_lm_head:
        return 0
    least = HEAD_CHUNK_LOGITS["accelerator" if on_gpu else "cpu"]
    chunk = max(least, HEAD_CHUNK_TOKENS * model.vocab_size) * (2 * wide + FP32)
    return max(chunk, FP32 * model.vocab_size * model.hidden_size)


def _is_unsorted(wide: int, stage: int) -> bool:
    """Whether every rank keeps all gradients until the step's end: DeepSpeed's BF16_Optimizer, or none of its own."""
    return stage == 0 or (stage == 1 and wide < FP32)


def _update(model: ModelConfig, config: TrainingConfig, wide: int, stage: int, ranks: int) -> int:
    """What comes when the backward pass is over.

    Where gradients are unsorted, a copy of them to be sent, before all else. Where they are sorted, a flat copy of the
    rank's own; at stage 2 in half precision, before that, what is sent and what comes. While the optimizer works, a
    copy of the weights that it updates, for their norms; with muon a direction, in bf16 the directions of all ranks.
    """
    count, blocks = num_parameters(model), num_block_parameters(model)
    own = FP32 * -(-count // ranks)
    work = own
    if config.optimizer is OptimizerKind.muon:
        work += (FP32 + HALF) * -(-blocks // ranks) + (HALF * blocks if ranks > 1 else 0)
    if not _is_unsorted(wide, stage):
        sent = 2 * wide * min(count, REDUCE_BUCKET) if stage == 2 and wide < FP32 else 0  # noqa: PLR2004
        return max(own + work, sent)
    return max(work, FP32 * min(count, EXCHANGED_AT_ONCE) if ranks > 1 else 0)


def _buckets(count: int, wide: int, stage: int, ranks: int, *, before: int) -> int:
    """Also on one rank, which has nobody to send to, where a stage sorts its gradients into partitions.

    Stage 2 has them during a backward pass alone, from the first gradient on, where `before` is gone. Stage 3 sends an
    fp32 copy of what it has gathered.
    """
    size = min(count, REDUCE_BUCKET)
    if _is_unsorted(wide, stage):
        return 0
    if stage == 1:
        return FP32 * size
    if stage < WEIGHTS_STAGE:
        return max(0, wide * size - before)
    return (wide + (FP32 if stage == WEIGHTS_STAGE and ranks > 1 and wide < FP32 else 0)) * size
