"""Settings that fit: the cheapest first, nothing that was set is changed, and a refusal names what would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import LlamaConfig
from pipeline.dag.resources import Recomputation, Resources
from pipeline.errors import ConfigError
from pipeline.training.config import TrainingConfig, zero_stage_of
from pipeline.training.fit import USABLE, fitted, memory_with
from pipeline.training.memory import GIB

SMALL = LlamaConfig(vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_layers=16, num_heads=16)
SEVEN = LlamaConfig(vocab_size=32000)
TRAINING = TrainingConfig(seq_len=2048, global_batch_tokens=2048 * 128)


def fit(model, gib, ranks, training=TRAINING, **settings):
    resources = Resources(num_workers=ranks, num_gpus=1, **settings)
    return fitted(model, training, resources, device_bytes=gib * GIB)


def test_what_fits_as_it_is_stays_as_it_is():
    found = fit(SMALL, 80, 8)
    assert found.reason == ""
    assert (found.resources.zero_stage, found.resources.micro_batch_size) == (1, 4)
    assert found.resources.activation_checkpointing is Recomputation.none
    assert not found.resources.offload_optimizer


def test_seven_billion_on_eight_gpus_of_80_gib_are_partitioned_and_not_offloaded():
    found = fit(SEVEN, 80, 8)
    assert found.memory.on_device <= USABLE * 80 * GIB
    assert found.resources.zero_stage >= 2
    assert not found.resources.offload_optimizer
    assert "ZeRO 1, a micro batch of 4 would take" in found.reason


def test_offload_is_the_last_resort():
    found = fit(SEVEN, 26, 8)
    assert found.resources.zero_stage == 3
    assert found.resources.activation_checkpointing is Recomputation.full
    one = fit(SEVEN, 60, 1)
    assert one.resources.offload_optimizer
    assert one.memory.on_host >= one.memory.optimizer


def test_what_is_set_is_kept():
    found = fit(SMALL, 80, 8, zero_stage=2, micro_batch_size=1, activation_checkpointing=Recomputation.full)
    assert (found.resources.zero_stage, found.resources.micro_batch_size) == (2, 1)
    assert found.resources.activation_checkpointing is Recomputation.full
    assert found.memory == memory_with(SMALL, TRAINING, found.resources)


def test_a_refusal_names_the_ranks_that_would_do():
    with pytest.raises(ConfigError) as caught:
        fit(SEVEN, 24, 2, offload_optimizer=False)
    assert "does not fit" in caught.value.what
    ranks = int(caught.value.do.split()[1])
    assert fit(SEVEN, 24, ranks, offload_optimizer=False).memory.on_device <= USABLE * 24 * GIB
    smaller = max(n for n in range(1, ranks) if TRAINING.sequences_per_step % n == 0)
    with pytest.raises(ConfigError, match="does not fit"):
        fit(SEVEN, 24, smaller, offload_optimizer=False)


def test_a_refusal_says_which_settings_to_leave_open():
    training = TrainingConfig(seq_len=2048, global_batch_tokens=2048 * 8)
    with pytest.raises(ConfigError) as caught:
        fit(
            SEVEN,
            60,
            8,
            training,
            zero_stage=1,
            activation_checkpointing=Recomputation.none,
            offload_optimizer=False,
        )
    assert "leave zero_stage" in caught.value.do


def test_a_refusal_at_the_end_of_all_means_says_so():
    with pytest.raises(ConfigError) as caught:
        fit(LlamaConfig(vocab_size=32000, hidden_size=16384, num_layers=126, num_heads=128), 8, 2)
    assert "smaller model" in caught.value.do


@given(
    gib=st.floats(1, 200),
    ranks=st.sampled_from([1, 2, 4, 8, 64]),
    stage=st.sampled_from([None, 1, 2, 3]),
    recompute=st.sampled_from([None, *Recomputation]),
)
def test_whatever_is_chosen_fits_and_keeps_what_was_set(gib, ranks, stage, recompute):
    try:
        found = fit(SMALL, gib, ranks, zero_stage=stage, activation_checkpointing=recompute)
    except ConfigError:
        assert min(gib * GIB * USABLE, 40 * GIB) < 40 * GIB, "a 1B model fits into 40 GiB whatever is set"
        return
    chosen = found.resources
    assert found.memory.on_device <= USABLE * gib * GIB
    assert stage is None or chosen.zero_stage == zero_stage_of(TRAINING, chosen, world_size=ranks) == stage
    assert recompute is None or chosen.activation_checkpointing == recompute
    assert None not in (chosen.zero_stage, chosen.micro_batch_size, chosen.offload_optimizer)
    assert TRAINING.sequences_per_step % (ranks * chosen.micro_batch_size) == 0


def test_more_memory_never_costs_more_time():
    chosen = [fit(SEVEN, gib, 8).resources for gib in (24, 40, 80, 141)]
    order = list(Recomputation)
    costly = [
        (each.zero_stage, order.index(each.activation_checkpointing), each.offload_optimizer)
        for each in chosen
    ]
    assert costly == sorted(costly, reverse=True)
