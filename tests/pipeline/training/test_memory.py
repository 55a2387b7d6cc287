"""Memory of a rank, against what ZeRO's paper says and what tensors take."""

import pytest

from model.config import GPT2Config, LlamaConfig
from model.flops import num_parameters
from pipeline.dag.resources import Recomputation
from pipeline.training.config import BatchSplit, OptimizerKind, Precision, TrainingConfig, split_batch
from pipeline.training.memory import (
    EXCHANGED_AT_ONCE,
    HEAD_CHUNK_LOGITS,
    HEAD_CHUNK_TOKENS,
    memory_of_rank,
)
from tests.pipeline.training.conftest import tiny_model, tiny_training

MODEL = LlamaConfig(vocab_size=32000)  # 7B


def memory_on(world_size, stage, model=MODEL, precision=Precision.bf16, **settings):
    config = TrainingConfig(seq_len=2048, global_batch_tokens=2048 * 64, precision=precision)
    split = split_batch(config, world_size=world_size, micro_batch_size=1)
    return memory_of_rank(model, config, split, zero_stage=stage, **settings)


def test_the_paper_s_sixteen_bytes_a_parameter():
    count = num_parameters(MODEL)
    memory = memory_on(1, 1)
    assert memory.weights + memory.optimizer == pytest.approx(14 * count)  # 2 + 12
    assert memory.gradients == 4 * count  # summed in fp32, two bytes more; those in bf16 are gone at once


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_fp32_on_one_rank_keeps_weights_gradients_and_two_states(stage):
    memory = memory_on(1, stage, precision=Precision.fp32)
    assert memory.weights + memory.gradients + memory.optimizer == 16 * num_parameters(MODEL)


def test_each_stage_needs_less_than_the_one_before():
    totals = [memory_on(8, stage).total for stage in (1, 2, 3)]
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize("stage", [0, 3])
@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_optimizer_states_are_what_the_optimizer_keeps(kind, stage):
    """Counted in a real optimizer of a small model after a step."""
    import torch

    from model.registry import build_model
    from pipeline.training.optimizer import build_optimizer

    model_config = GPT2Config(
        vocab_size=300, hidden_size=32, intermediate_size=128, num_layers=3, num_heads=2, max_seq_len=16
    )
    config = TrainingConfig(
        seq_len=16, global_batch_tokens=16, optimizer=kind, precision=Precision.fp32, warmup_steps=0
    )
    model = build_model(model_config)
    optimizer = build_optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = sum(
        value.nbytes for state in optimizer.state.values() for value in state.values() if value.dim() > 0
    )
    split = split_batch(config, world_size=1, micro_batch_size=1)
    weights = sum(parameter.nbytes for parameter in model.parameters()) if stage else 0
    counted = memory_of_rank(model_config, config, split, zero_stage=stage).optimizer
    assert counted - weights == pytest.approx(kept, rel=0.05)


@pytest.mark.parametrize("precision", list(Precision))
def test_a_mean_of_the_weights_takes_four_bytes_a_parameter(precision):
    def held(ema_decay):
        config = TrainingConfig(
            seq_len=2048, global_batch_tokens=2048 * 64, precision=precision, ema_decay=ema_decay
        )
        return memory_of_rank(
            MODEL, config, split_batch(config, world_size=8, micro_batch_size=1), zero_stage=2
        )

    for name in ("optimizer", "copies"):
        more = getattr(held(0.999), name) - getattr(held(0.0), name)
        assert more == pytest.approx(4 * num_parameters(MODEL) / 8)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_optimizer_states_are_shared_out(stage):
    assert memory_on(8, stage).optimizer == pytest.approx(memory_on(1, stage).optimizer / 8, rel=1e-6)


def test_offload_moves_the_optimizer_to_the_host():
    memory = memory_on(8, 2, offload_optimizer=True, on_gpu=True)
    kept = memory.optimizer + memory.gradients + memory.update + memory.copies
    assert memory.on_host == kept, "a rank's own sums are used on the host"
    assert memory.on_device == memory.total - memory.on_host


def test_a_cpu_rank_has_one_memory():
    memory = memory_on(8, 3, offload_optimizer=True, offload_parameters=True)
    assert memory.on_device == memory.total
    copied = memory_on(8, 3, on_gpu=True)
    assert copied.on_device == copied.total - copied.copies, (
        "of a GPU's training the checkpoint is on the host"
    )


@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_a_checkpoint_copies_the_weights_and_all_states(kind):
    config = TrainingConfig(
        seq_len=2048, global_batch_tokens=2048 * 64, optimizer=kind, precision=Precision.fp32
    )
    split = split_batch(config, world_size=2, micro_batch_size=1)
    memory = memory_of_rank(MODEL, config, split, zero_stage=3)
    assert memory.copies == memory.optimizer


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp32])
def test_what_the_update_takes_counts_where_activations_leave_too_little(precision):
    long, short = (
        memory_of_rank(
            MODEL,
            TrainingConfig(seq_len=length, global_batch_tokens=length * 64, precision=precision),
            BatchSplit(8, 1, 8),
            zero_stage=2,
        )
        for length in (2048, 64)
    )
    assert long.update == 0
    assert short.update + short.activations + short.logits == pytest.approx(2 * 4 * num_parameters(MODEL) / 8)


@pytest.mark.parametrize("model", [MODEL, GPT2Config(vocab_size=50257)])
def test_recomputation_keeps_a_fraction_of_the_activations(model):
    kept, selective, recomputed = (memory_on(1, 1, model, recomputation=each) for each in Recomputation)
    assert recomputed.activations < kept.activations / 4
    assert 0.4 * kept.activations < selective.activations < 0.8 * kept.activations


def test_the_head_s_chunks_are_those_of_the_model():
    from model.head import CHUNK_LOGITS, MIN_CHUNK_TOKENS

    assert (HEAD_CHUNK_LOGITS, HEAD_CHUNK_TOKENS) == (CHUNK_LOGITS, MIN_CHUNK_TOKENS)


def test_what_is_exchanged_at_once_is_what_deepspeed_exchanges():
    from pipeline.training.runtime import import_deepspeed

    assert import_deepspeed().runtime.engine.MEMORY_OPT_ALLREDUCE_SIZE == EXCHANGED_AT_ONCE


@pytest.mark.parametrize(
    ("stage", "precision", "in_place"), [(1, "fp32", True), (2, "fp32", True), (2, "bf16", False)]
)
def test_the_optimizer_of_a_rank_updates_fp32_weights_in_their_place(
    process_group, stage, precision, in_place
):
    from model.objectives import CausalLM
    from model.registry import build_model
    from pipeline.dag.resources import Resources
    from pipeline.training.engine import Engine
    from pipeline.training.fragments import fragments_of, named_parameters, set_weights

    config = tiny_training(precision=Precision[precision])
    objective = CausalLM(build_model(tiny_model().with_vocab_size(300)))
    weights = {name: each.detach().clone() for name, each in objective.model.named_parameters()}
    split = split_batch(config, world_size=1, micro_batch_size=8)
    engine = Engine(objective, config, resources=Resources(zero_stage=stage), split=split)
    set_weights(engine, weights)
    computed_with = dict(named_parameters(engine))
    for fragment in fragments_of(engine):
        updated, parameter = fragment.tensors["weight"], computed_with[fragment.name]
        assert (updated.data_ptr() == parameter.data_ptr()) is in_place
        assert updated.dtype is fragment.tensors["exp_avg"].dtype
        assert updated.equal(weights[fragment.name].flatten())
