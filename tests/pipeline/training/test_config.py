"""The training config: what is wrong is said in words, and derived values have one place."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.training.config import TrainingConfig, split_batch


def test_needs_no_torch():
    code = (
        "import sys, pipeline.training.config, pipeline.training.memory, pipeline.training.job, "
        "pipeline.training.schedule; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_defaults_have_no_problem():
    assert TrainingConfig().problems() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_steps", 0),
        ("seq_len", 0),
        ("global_batch_tokens", 1000),
        ("global_batch_tokens", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("min_learning_rate_fraction", 1.5),
        ("warmup_steps", 2000),
        ("decay_fraction", 1.5),
        ("beta2", 1.0),
        ("max_grad_norm", -1.0),
        ("eval_max_sequences", 0),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(field, value):
    found = [problem for problem in TrainingConfig(**{field: value}).problems() if problem.field == field]
    assert len(found) == 1
    assert found[0].allowed
    assert found[0].do


@given(
    total=st.integers(1, 200), world_size=st.integers(1, 16), micro=st.one_of(st.none(), st.integers(1, 64))
)
def test_a_split_covers_the_global_batch_or_says_what_would(total, world_size, micro):
    config = TrainingConfig(global_batch_tokens=total * 64, seq_len=64)
    if total % world_size or (total // world_size) % (micro or 1):
        with pytest.raises(ConfigError) as raised:
            split_batch(config, world_size=world_size, micro_batch_size=micro)
        assert str(world_size if total % world_size else micro) not in raised.value.allowed.split(", ")
        return
    split = split_batch(config, world_size=world_size, micro_batch_size=micro)
    assert split.world_size * split.micro_batch_size * split.gradient_accumulation_steps == total
    assert micro in (None, split.micro_batch_size)


def test_the_suggested_micro_batch_fits():
    config = TrainingConfig(global_batch_tokens=12 * 64, seq_len=64)
    with pytest.raises(ConfigError, match="micro batches of 5") as raised:
        split_batch(config, world_size=1, micro_batch_size=5)
    assert "6" in raised.value.do
    assert split_batch(config, world_size=1, micro_batch_size=6).gradient_accumulation_steps == 2
