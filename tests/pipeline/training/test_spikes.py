"""Spikes of the loss: told by a rule of the losses alone, and what each policy makes of their updates."""

import copy
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batches import TrainingBatches
from data.packed import PackedSequences
from data.shards import TokenFormat, TokenRow, TokenShards, TokenWriter, read_tokens
from pipeline.dag.folder import open_folder
from pipeline.training.config import OptimizerKind, Precision, TrainingConfig
from pipeline.training.spikes import SpikeGuard, SpikePolicy, SpikeSettings

VOCAB_SIZE = 96
HASH = "f" * 16
POLICIES = (SpikePolicy.skip, SpikePolicy.cut_rate, SpikePolicy.rewind)
SETTINGS = {
    "shuffle_window": 16,
    "spike_window": 12,
    "spike_threshold": 4.0,
    "learning_rate": 1e-2,
    "spike_rewind_steps": 10,
    "warmup_steps": 4,
    "num_steps": 44,
}


@pytest.fixture(scope="module")
def spiky(corpus, tmp_path_factory):
    """The corpus with noise in its middle: in windows, it comes there, and nowhere else."""
    rows = list(read_tokens(corpus["train"].local() / "tokens-00000.arrow"))
    path = tmp_path_factory.mktemp("spiky") / "tokens-00000.arrow"
    draw = np.random.default_rng(3)
    noise = [TokenRow(f"noise-{row}", "made.txt", 3, draw.integers(1, VOCAB_SIZE, 60)) for row in range(6)]
    with TokenWriter(path, token_format=TokenFormat(HASH, VOCAB_SIZE, 0)) as writer:
        for row in [*rows[:150], *noise, *rows[150:]]:
            writer.write(row)
    return open_folder(str(path.parent))


@pytest.fixture(scope="module")
def make_spiky(make_job, spiky):
    def make(policy, **changes):
        return make_job({"train_tokens": {"train": spiky}}, **(SETTINGS | {"spike_policy": policy} | changes))

    return make


@pytest.fixture(scope="module")
def plain(make_spiky, spiky):
    """What a loop as anyone would write it makes of each policy."""
    return {policy: plain_run(make_spiky(policy), spiky) for policy in POLICIES}


def is_spike(losses, loss, config):
    """The rule once more."""
    if len(losses) < config.spike_window:
        return False
    last = np.array(losses[-config.spike_window :])
    deviation = 1.4826 * np.median(np.abs(last - np.median(last)))
    return loss > np.median(last) + config.spike_threshold * max(deviation, 1e-3 * abs(np.median(last)))


def plain_run(job, folder):
    """Losses, and steps that were spikes, of a loop as anyone would write it."""
    import torch
    import torch.nn.functional as F

    from model.registry import build_model
    from pipeline.training.schedule import learning_rate_at

    config, per_step = job.training, job.training.sequences_per_step
    shards = TokenShards(sorted(folder.local().glob("*.arrow")))
    pool = PackedSequences(shards, seq_len=config.seq_len)
    batches = TrainingBatches(
        [pool], sequences_per_step=per_step, seed=config.seed, window=config.shuffle_window
    )
    torch.manual_seed(config.seed)
    model = build_model(job.model.with_vocab_size(shards.format.vocab_size))
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.eps)
    losses, spikes = [], []
    for step in range(config.num_steps):
        if step % config.spike_rewind_steps == 0:
            kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        batch = batches.batch(step, rank=0, world_size=1, micro_step=0, micro_batch_size=per_step)
        logits = model(torch.from_numpy(batch["input_ids"]))
        loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch["labels"]).flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        found = config.spike_policy is not SpikePolicy.none and is_spike(losses, loss.item(), config)
        rate = learning_rate_at(step, config, config.length())
        for group in optimizer.param_groups:
            group["lr"] = (
                rate / config.spike_rate_divisor
                if found and config.spike_policy is SpikePolicy.cut_rate
                else rate
            )
        if not found or config.spike_policy is SpikePolicy.cut_rate:
            optimizer.step()
        if found and config.spike_policy is SpikePolicy.rewind:
            model.load_state_dict(kept[0])
            optimizer.load_state_dict(copy.deepcopy(kept[1]))
        losses.append(loss.item())
        spikes += [step + 1] if found else []
    return losses, spikes


def recorded_spikes(folder):
    lines = (folder / "output/logs/metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if "train/spikes" in line]
    assert [line["metrics"]["train/spikes"] for line in found] == list(range(1, len(found) + 1))
    return [line["step"] for line in found]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_each_policy_is_that_of_a_plain_loop(here, make_spiky, plain, policy, stage):
    job = make_spiky(policy)
    losses, spikes = plain[policy]
    assert spikes, "the noise makes no spike"
    here.run(job, "run", zero_stage=stage, micro_batch_size=4)
    assert here.losses("run") == pytest.approx(losses, abs=2e-4)
    assert recorded_spikes(here.root / "run") == spikes
    assert here.notes().count("is a spike, above") == len(spikes)
    assert here.notes().count("back to the checkpoint of step") == (
        len(spikes) if policy is SpikePolicy.rewind else 0
    )


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": Precision.bf16, "ema_decay": 0.9},
        {"precision": Precision.bf16, "optimizer": OptimizerKind.muon},
        {"optimizer": OptimizerKind.lion},
    ],
    ids=["bf16", "muon", "lion"],
)
def test_an_update_that_is_left_out_changes_no_bit(here, make_spiky, changes, stage):
    first = 32
    job = make_spiky(SpikePolicy.skip, **(changes | {"num_steps": first}))
    here.run(job, "run", checkpoint_every_steps=first - 1, zero_stage=stage)
    assert recorded_spikes(here.root / "run") == [first]
    before, after = (
        (here.root / f"run/scratch/step-{step:08d}/rank-00000-of-00001.safetensors").read_bytes()
        for step in (first - 1, first)
    )
    assert before == after


def test_the_policies_differ(here, make_spiky):
    found = set()
    for policy in SpikePolicy:
        here.run(make_spiky(policy), policy.name)
        found.add(here.weights(policy.name))
    assert len(found) == len(SpikePolicy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("num_steps", [39, 44], ids=["spikes again", "goes on after the spikes"])
def test_a_resumed_run_decides_as_the_first_one_did(here, make_spiky, policy, num_steps):
    job = make_spiky(policy, num_steps=num_steps, ema_decay=0.9)
    here.run(job, "whole", checkpoint_every_steps=10)
    spikes = recorded_spikes(here.root / "whole")
    shutil.copytree(here.root / "whole", here.root / "resumed")
    shutil.rmtree(here.root / "resumed/output")
    shutil.rmtree(here.root / f"resumed/scratch/step-{num_steps:08d}")
    here.run(job, "resumed", checkpoint_every_steps=10)
    assert f"resumed from the checkpoint of step {num_steps // 10 * 10}" in here.notes()
    assert here.weights("resumed") == here.weights("whole")
    assert here.losses("resumed") == here.losses("whole")
    assert recorded_spikes(here.root / "resumed") == spikes


@pytest.mark.parametrize("policy", POLICIES)
def test_circumstance_changes_no_decision(here, make_spiky, policy):
    here.run(make_spiky(policy), "one", checkpoint_every_steps=10)
    here.run(make_spiky(policy), "other", checkpoint_every_steps=7, log_every_steps=5)
    assert here.weights("other") == here.weights("one")
    assert recorded_spikes(here.root / "other") == recorded_spikes(here.root / "one") != []


@pytest.mark.slow
def test_two_ranks_decide_as_one(runs, make_spiky):
    for world_size in (1, 2):
        orders = [
            runs.order(
                make_spiky(policy), f"spikes-{policy.name}-{world_size}", zero_stage=2, micro_batch_size=4
            )
            for policy in POLICIES
        ]
        runs.run(orders, world_size=world_size)
    for policy in POLICIES:
        one, two = (f"spikes-{policy.name}-{world_size}" for world_size in (1, 2))
        assert runs.losses(two) == pytest.approx(runs.losses(one), abs=2e-4)
        assert recorded_spikes(runs.root / two) == recorded_spikes(runs.root / one) != []


FINITE = st.floats(0, 20, allow_nan=False)


@given(st.lists(FINITE, max_size=60), st.integers(2, 8), st.integers(0, 60))
def test_a_guard_that_was_stored_goes_on_as_if_it_had_not_been(losses, window, stored_at):
    settings = TrainingConfig(spike_policy=SpikePolicy.skip, spike_window=window)
    whole, parts = SpikeGuard(settings), SpikeGuard(settings)
    decisions = []
    for step, loss in enumerate(losses):
        if step == stored_at:
            content = json.dumps(parts.state())
            parts = SpikeGuard(settings)
            parts.restore(json.loads(content))
        decisions.append((whole.judge(loss), parts.judge(loss)))
    assert all(first == second for first, second in decisions)
    expected = [is_spike(losses[:step], loss, settings) for step, loss in enumerate(losses)]
    assert [first is not None for first, _ in decisions] == expected


def test_nothing_is_a_spike_unless_asked_for():
    guard = SpikeGuard(SpikeSettings(spike_window=2))
    assert [guard.judge(loss) for loss in (1.0, 1.0, 1.0, 100.0)] == [None] * 4
    assert guard.losses == []


def test_a_lasting_change_is_no_spike_for_ever():
    guard = SpikeGuard(SpikeSettings(SpikePolicy.skip, spike_window=8))
    found = [guard.judge(loss) is not None for loss in [1.0] * 8 + [2.0] * 16]
    assert found[8]
    assert not any(found[12:])


@pytest.mark.parametrize(
    ("field", "value"),
    [("spike_window", 1), ("spike_threshold", 0.0), ("spike_rate_divisor", 1.0), ("spike_rewind_steps", 0)],
)
def test_wrong_settings_are_named(field, value):
    assert [problem.field for problem in TrainingConfig(**{field: value}).problems()] == [field]
