"""Norms by layer: those of the whole gradient in parts, and of the difference that an update made."""

import json
import math
from pathlib import Path

import pytest
import torch

from model.config import GPT2Config, LlamaConfig
from model.registry import build_model
from pipeline.dag.folder import open_folder
from pipeline.training.checkpoint import folder_name, whole_weights
from pipeline.training.config import OptimizerKind, Precision
from pipeline.training.norms import group_names

EVERY, NUM_STEPS = 5, 12


def norms_in(folder: Path) -> dict[int, dict[str, float]]:
    """Step to the metrics of that step."""
    found: dict[int, dict[str, float]] = {}
    for line in (folder / "output/logs/metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["step"], {}).update(record["metrics"])
    return {step: metrics for step, metrics in found.items() if "grad_norm/embedding" in metrics}


def together(metrics: dict[str, float], prefix: str) -> float:
    return math.hypot(*(value for name, value in metrics.items() if name.startswith(prefix)))


def check_gradients(norms: dict[int, dict[str, float]]) -> None:
    """The groups' norms make the norm of all, before clipping."""
    assert list(norms) == [5, 10, 12]
    for metrics in norms.values():
        assert together(metrics, "grad_norm/") == pytest.approx(metrics["train/grad_norm"], rel=1e-4)


def check_updates(folder: Path, norms: dict[str, float]) -> None:
    """Against the weights of the checkpoints before and after the last update."""
    scratch = open_folder(str(folder / "scratch"))
    before, after = (
        whole_weights(scratch, scratch.child(folder_name(step)).read_json("manifest.json"))
        for step in (NUM_STEPS - 1, NUM_STEPS)
    )
    groups = {"embedding": ["embedding"], "block_00": ["blocks.0.attention", "blocks.0.mlp"]}
    for group, starts in groups.items():
        chosen = [name for name in before if name.startswith(tuple(starts)) and "norm" not in name]
        old, new = (torch.cat([each[name].flatten() for name in chosen]) for each in (before, after))
        expected = float((new - old).double().norm())
        assert norms[f"update_norm/{group}"] == pytest.approx(expected, rel=1e-4)
        assert norms[f"update_ratio/{group}"] == pytest.approx(expected / float(old.norm()), rel=1e-4)


@pytest.mark.parametrize(
    "changes", [{}, {"max_grad_norm": 0.0}, {"optimizer": OptimizerKind.muon}, {"precision": Precision.bf16}]
)
def test_norms_are_those_of_gradients_and_updates(here, make_job, changes):
    job = make_job({"validation_tokens": None}, **changes)
    here.run(job, "run", checkpoint_every_steps=1, norms_every_steps=EVERY)
    norms = norms_in(here.root / "run")
    check_gradients(norms)
    check_updates(here.root / "run", norms[NUM_STEPS])


def test_looking_changes_nothing(here, make_job):
    here.run(make_job(), "every", norms_every_steps=1)
    here.run(make_job(), "last")
    assert list(norms_in(here.root / "last")) == [NUM_STEPS]
    assert here.weights("every") == here.weights("last")


def names_of(config) -> dict[str, str]:
    with torch.device("meta"):
        return group_names(build_model(config))


def test_every_parameter_is_in_a_group_that_says_what_it_is():
    shape = {"vocab_size": 31, "hidden_size": 32, "num_heads": 4}
    llama = names_of(LlamaConfig(**shape, num_kv_heads=4, num_layers=3, intermediate_size=64))
    assert set(llama.values()) == {"embedding", "block_00", "block_01", "block_02", "norms", "head"}
    assert llama["blocks.1.attention_norm.weight"] == llama["norm.weight"] == "norms"
    gpt2 = names_of(GPT2Config(**shape, num_layers=20, max_seq_len=8))
    blocks = sorted({name for name in gpt2.values() if name.startswith("block")})
    assert blocks == [f"blocks_{first:02d}-{first + 1:02d}" for first in range(0, 20, 2)]
    assert "other" not in gpt2.values()


@pytest.mark.slow
def test_every_stage_on_ranks_finds_the_same(runs, make_job):
    settings = [
        ("fp32", {}, (0, 1, 2, 3)),
        ("bf16", {"precision": Precision.bf16}, (1, 2)),
        ("muon", {"optimizer": OptimizerKind.muon}, (0, 3)),
    ]
    orders = [
        runs.order(
            make_job({"validation_tokens": None}, **changes),
            f"{name}-{stage}",
            zero_stage=stage,
            norms_every_steps=EVERY,
            checkpoint_every_steps=NUM_STEPS - 1,
        )
        for name, changes, stages in settings
        for stage in stages
    ]
    runs.run(orders, world_size=2)
    for name, _, stages in settings:
        for stage in stages:
            norms = norms_in(runs.root / f"{name}-{stage}")
            check_gradients(norms)
            check_updates(runs.root / f"{name}-{stage}", norms[NUM_STEPS])
