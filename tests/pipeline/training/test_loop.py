"""The loop on a real engine of one rank: its accumulation, its stops, its resumption, its artifact."""

import dataclasses
import json
import shutil

import pytest
import torch

from data.errors import DataError
from data.mixture import MixtureRules
from model.registry import build_model
from model.weights import load_weights
from pipeline.dag.resources import Recomputation
from pipeline.errors import StageFailedError
from pipeline.training.config import OptimizerKind, Packing, Precision


def test_accumulated_micro_batches_are_the_full_batch(here, make_job):
    here.run(make_job(), "full", micro_batch_size=8)
    here.run(make_job(), "parts", micro_batch_size=1)
    assert here.losses("parts") == pytest.approx(here.losses("full"), abs=1e-5)
    assert here.losses("full")[-1] < here.losses("full")[0] - 0.1


CHANGES = [
    *({"precision": precision} for precision in (Precision.bf16, Precision.fp32)),
    *({"precision": Precision.bf16, "optimizer": kind} for kind in OptimizerKind),
    {"optimizer": OptimizerKind.muon},
    {"optimizer": OptimizerKind.sgd, "momentum": 0.0},
    {"precision": Precision.bf16, "ema_decay": 0.9},
    {"ema_decay": 0.9},
]
"""Settings whose state a checkpoint must hold."""


@pytest.mark.parametrize("changes", CHANGES)
def test_a_resumed_run_has_the_bytes_of_an_uninterrupted_one(here, make_job, changes):
    job = make_job(**changes, eval_every_steps=4)
    here.run(job, "whole", checkpoint_every_steps=5)
    shutil.copytree(here.root / "whole", here.root / "resumed")
    shutil.rmtree(here.root / "resumed/output")
    for step in (10, 12):
        shutil.rmtree(here.root / f"resumed/scratch/step-{step:08d}", ignore_errors=True)
    assert not (here.root / "resumed/scratch/step-00000010").exists()
    here.run(job, "resumed", checkpoint_every_steps=5)
    assert here.weights("resumed") == here.weights("whole")
    assert here.losses("resumed") == here.losses("whole")


def test_a_resumed_run_goes_on_from_its_newest_checkpoint(here, make_job):
    here.run(make_job(), "run", checkpoint_every_steps=5)
    scratch, _ = here.folders("run")
    assert scratch.folders() == ["step-00000010", "step-00000012"]
    shutil.rmtree(here.root / "run/scratch/step-00000012")
    losses, weights = here.losses("run"), here.weights("run")
    here.run(make_job(), "run", checkpoint_every_steps=5)
    assert "resumed from the checkpoint of step 10" in here.notes()
    assert here.losses("run") == losses
    assert here.weights("run") == weights


@pytest.mark.parametrize("damage", ["cut short", "altered", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_and_said_so(here, make_job, damage):
    here.run(make_job(), "run", checkpoint_every_steps=5)
    weights = here.weights("run")
    newest = here.root / "run/scratch/step-00000012"
    file = newest / ("manifest.json" if damage == "manifest" else "rank-00000-of-00001.safetensors")
    content = bytearray(file.read_bytes())
    content[-2] ^= 255
    file.write_bytes(content[: len(content) // 2] if damage != "altered" else content)
    here.run(make_job(), "run", checkpoint_every_steps=5)
    assert "checkpoint of step 12 is damaged" in here.notes()
    assert "resumed from the checkpoint of step 10" in here.notes()
    assert here.weights("run") == weights


def test_a_checkpoint_without_its_manifest_is_not_there(here, make_job):
    here.run(make_job(), "run", checkpoint_every_steps=5)
    (here.root / "run/scratch/step-00000012/manifest.json").unlink()
    here.run(make_job(), "run", checkpoint_every_steps=5)
    assert "damaged" not in here.notes()
    assert "resumed from the checkpoint of step 10" in here.notes()


def test_a_number_that_is_not_finite_stops_before_the_update(here, make_job):
    with pytest.raises(StageFailedError) as raised:
        here.run(make_job(learning_rate=1e25, warmup_steps=0), "run", checkpoint_every_steps=1)
    error = raised.value
    assert "before the update" in error.what
    assert "at step " in error.what
    assert "sequences " in error.where
    assert "doc-1-" in error.where


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_the_micro_batch_that_is_not_finite_is_named(here, make_job, monkeypatch, what, stage):
    """The third micro batch of the second step makes every loss, or every gradient, infinite that it has a part in."""
    shown = []

    def poison(_module, inputs, output):
        shown.append(inputs[0].detach().clone())
        if len(shown) < 7 or not torch.equal(shown[-1], shown[6]):
            return None
        if what == "loss":
            return output * torch.inf
        output.register_hook(lambda gradient: gradient * torch.inf)
        return output

    def build(config):
        model = build_model(config)
        next(each for each in model.modules() if isinstance(each, torch.nn.Embedding)).register_forward_hook(
            poison
        )
        return model

    monkeypatch.setattr("pipeline.training.worker.build_model", build)
    with pytest.raises(StageFailedError) as raised:
        here.run(make_job(), "run", micro_batch_size=2, zero_stage=stage)
    assert f"the {what} is" in raised.value.what
    assert "at step 2: stopped before the update" in raised.value.what
    if what == "loss" or stage < 3:
        assert raised.value.where.startswith("first on rank 0, in micro step 3 of 4: sequences ")
        assert len(raised.value.where.partition("sequences ")[2].partition(";")[0].split(", ")) == 2


def test_the_artifact_is_fp32_weights_with_config_tokenizer_and_log(here, make_job):
    result = here.run(make_job(precision=Precision.bf16), "run")
    config, weights = load_weights(here.root / "run/output")
    assert config.vocab_size == 96
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    assert any((weight != weight.bfloat16().float()).any() for weight in weights.values())
    assert (here.root / "run/output/tokenizer/tokenizer.json").exists()
    lines = [
        json.loads(line) for line in (here.root / "run/output/logs/metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines if "train/loss" in line["metrics"]] == list(range(1, 13))
    assert result.counters["tokens"] == 12 * 8 * 32
    assert result.metrics["eval/loss"] < 4.6


def test_training_goes_on_from_the_weights_of_another_artifact(here, make_job):
    job = make_job()
    here.run(job, "first")
    _, output = here.folders("first")
    here.run(dataclasses.replace(job, initial_weights=output), "second")
    assert here.losses("second")[0] < here.losses("first")[0] - 0.3


def test_evaluation_is_the_token_weighted_mean_whatever_the_micro_batch(here, make_job):
    found = [
        here.run(make_job(num_steps=2, eval_max_sequences=13), f"micro-{micro}", micro_batch_size=micro)
        for micro in (8, 2, 1)
    ]
    assert [each.metrics["eval/loss"] for each in found[1:]] == pytest.approx(
        [found[0].metrics["eval/loss"]] * 2, abs=1e-4
    )


@pytest.mark.parametrize("stage", [0, 3])
def test_recomputing_activations_changes_nothing(here, make_job, stage):
    for each in Recomputation:
        here.run(make_job(num_steps=4), each.name, activation_checkpointing=each, zero_stage=stage)
    assert here.losses("full") == here.losses("selective") == here.losses("none")


def test_a_mixture_takes_of_each_source_what_its_weight_says(here, make_job, corpus):
    sources = {"train": corpus["train"], "other": corpus["validation"]}
    rules = MixtureRules(weights={"train": 3, "other": 1}, max_epochs={"other": 2})
    job = make_job({"train_tokens": sources, "mixture": rules})
    whole = here.run(job, "whole", checkpoint_every_steps=5)
    assert whole.counters["tokens/train"] == 3 * whole.counters["tokens/other"]
    assert whole.counters["tokens/train"] + whole.counters["tokens/other"] == whole.counters["tokens"]
    assert 0 < whole.metrics["epochs/train"] < 1
    here.run(job, "parts", micro_batch_size=2)
    assert here.losses("parts") == pytest.approx(here.losses("whole"), abs=1e-5)
    assert here.losses("whole") != pytest.approx(
        here.run(make_job(), "alone") and here.losses("alone"), abs=1e-5
    )


def test_sources_of_different_tokenizers_are_refused(here, make_job, corpus):
    job = make_job({"train_tokens": {"a": corpus["train"], "b": corpus["train"]}, "tokenizer_hash": "0" * 16})
    with pytest.raises(DataError, match="made by tokenizer"):
        here.run(job, "run")


@pytest.mark.parametrize("packing", [Packing.best_fit, Packing.pad])
def test_whole_documents_are_learned_from_too(here, make_job, packing):
    job = make_job({"packing": packing}, mask_documents=True, eval_every_steps=6)
    result = here.run(job, "run", micro_batch_size=8)
    assert 0.5 < result.metrics["packing/fill"] <= 1
    assert here.losses("run")[-1] < here.losses("run")[0] - 0.1
    here.run(job, "parts", micro_batch_size=2)
    assert here.losses("parts") == pytest.approx(here.losses("run"), abs=1e-5)


def test_epochs_and_tokens_are_the_run_of_as_many_steps(here, make_job):
    result = here.run(make_job(num_steps=None, num_epochs=0.2), "epochs")
    num_steps = result.counters["steps"]
    assert num_steps == len(here.losses("epochs")) > 8
    assert result.counters["tokens"] == num_steps * 8 * 32
    here.run(make_job(num_steps=num_steps), "steps")
    here.run(make_job(num_steps=None, num_tokens=num_steps * 8 * 32 - 5), "tokens")
    assert here.weights("epochs") == here.weights("steps") == here.weights("tokens")
