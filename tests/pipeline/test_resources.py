"""What a recipe says of a node's resources: ranges, and the default for all nodes."""

from dataclasses import fields
from itertools import cycle

import pytest

from pipeline.config import compose_recipe
from pipeline.dag.resources import RANGES, Resources
from pipeline.errors import ConfigError

RIGHT = {
    "num_workers": [1],
    "min_workers": [1],
    "num_gpus": [0, 0.5],
    "gpu_memory_gib": [0.5],
    "cpus_per_worker": [1],
    "zero_stage": [3, 0],
    "micro_batch_size": [1],
    "offload_folder": ["/fast", None],  # not at every stage
    "checkpoint_every_steps": [1],
    "keep_checkpoints_every_steps": [1],
    "log_every_steps": [1],
    "norms_every_steps": [1],
    "profile_steps": [[3], [10, 12]],
    "max_failures": [0],
    "hang_seconds": [0.5],
}
WRONG = {
    "num_workers": [0, -1],
    "min_workers": [0, -1],
    "num_gpus": [-1],
    "gpu_memory_gib": [0],
    "cpus_per_worker": [0],
    "zero_stage": [-1, 4],
    "micro_batch_size": [0],
    "offload_folder": ["fast", "''"],
    "checkpoint_every_steps": [0],
    "keep_checkpoints_every_steps": [0],
    "log_every_steps": [0],
    "norms_every_steps": [0],
    "profile_steps": ["[]", "[0]", "[0,2]", "[4,3]", "[1,2,3]"],
    "max_failures": [-1],
    "hang_seconds": [0],
}


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
def test_resources_within_their_ranges_are_taken(which):
    check_taken({name: values[which] for name, values in RIGHT.items()})


def test_resources_may_be_left_open():
    check_taken(dict.fromkeys(RIGHT))


def check_taken(values):
    given = {name: "null" if value is None else value for name, value in values.items()}
    taken = compose_recipe([f"resources.base.{name}={value}" for name, value in given.items()])
    assert {name: getattr(taken.config.resources["base"], name) for name in values} == values


@pytest.mark.parametrize("name", WRONG)
def test_resources_out_of_range_are_refused_wherever_they_are_set(name):
    for value, node in zip(WRONG[name], cycle(["default", "base"]), strict=False):
        with pytest.raises(ConfigError, match=name) as refused:
            compose_recipe([f"resources.{node}.{name}={value}"])
        assert refused.value.where == f"resources.{node}.{name}"


def test_every_number_of_resources_has_a_range():
    choices = ("bool", "Recomputation")
    numbers = {each.name for each in fields(Resources) if not any(name in str(each.type) for name in choices)}
    assert set(RANGES) == set(RIGHT) == set(WRONG) == numbers


@pytest.mark.parametrize("value", ["none", "selective", "full", "null"])
def test_what_is_recomputed_is_chosen_by_name(value):
    config = compose_recipe([f"resources.base.activation_checkpointing={value}"]).config
    chosen = config.resources["base"].activation_checkpointing
    assert (chosen.name if chosen else "null") == value


@pytest.mark.parametrize("value", ["true", "some"])
def test_another_choice_of_recomputation_is_refused_with_the_names(value):
    with pytest.raises(ConfigError) as refused:
        compose_recipe([f"resources.base.activation_checkpointing={value}"])
    assert "none, selective, full" in refused.value.allowed


def test_resources_of_a_node_stand_over_the_default():
    config = compose_recipe(
        ["resources.default.zero_stage=1", "resources.base.zero_stage=2", "resources.base.num_workers=2"]
    ).config
    assert config.resources_of("base").zero_stage == 2
    assert config.resources_of("base").num_workers == 2
    assert config.resources_of("summarizer").zero_stage == 1
    assert config.resources_of("summarizer").num_workers is None
