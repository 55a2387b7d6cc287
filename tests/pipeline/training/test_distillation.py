"""Trainings with a teacher: the losses of a plain loop, the same on every split; and teachers that are refused."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from data.tokenizer import Tokenizer
from model.config import BertConfig, LlamaConfig, RnnConfig
from model.registry import build_model
from model.weights import load_model, save_weights
from pipeline.dag.folder import open_folder
from pipeline.errors import ConfigError
from pipeline.training.beginning import check_job
from pipeline.training.config import Precision
from pipeline.training.distillation import own_problems, teacher_bytes
from pipeline.training.objective import Distillation, Objective
from tests.pipeline.training.conftest import tiny_training
from tests.pipeline.training.launcher import VOCAB_SIZE

NUM_STEPS = 8
DISTILLATION = Distillation(temperature=3.0, soft_weight=0.6, hidden_weight=0.5)
WIDER = LlamaConfig(
    vocab_size=VOCAB_SIZE,
    hidden_size=32,
    intermediate_size=96,
    num_layers=3,
    num_heads=4,
    num_kv_heads=4,
    max_seq_len=64,
)


def write_model(path, config, *, seed=3):
    torch.manual_seed(seed)
    save_weights(path, config, build_model(config).state_dict())
    return open_folder(str(path))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Of random weights: what it says is as good a lesson as any."""
    return write_model(tmp_path_factory.mktemp("teacher"), WIDER)


@pytest.fixture
def make_taught(make_job, teacher):
    def make(job=None, **changes):
        settings = {"num_steps": NUM_STEPS, "distillation": DISTILLATION} | changes
        return make_job(job={"teacher": teacher} | (job or {}), **settings)

    return make


def test_the_losses_are_those_of_a_plain_loop(here, make_taught, teacher, corpus):
    job = make_taught()
    here.run(job, "run", micro_batch_size=2)
    assert here.losses("run") == pytest.approx(plain_losses_of(job, teacher, corpus), abs=1e-4)


def plain_losses_of(job, teacher, corpus):
    """The whole batch at once, with all its logits; torch only."""
    from data.batches import TrainingBatches
    from data.packed import PackedSequences
    from data.shards import TokenShards
    from pipeline.training.schedule import learning_rate_at

    config, taught_by = job.training, load_model(teacher.local())
    shards = TokenShards(sorted(corpus["train"].local().glob("*.arrow")))
    pool = PackedSequences(shards, seq_len=config.seq_len)
    batches = TrainingBatches([pool], sequences_per_step=config.sequences_per_step, seed=config.seed)
    torch.manual_seed(config.seed)
    model = build_model(job.model.with_vocab_size(VOCAB_SIZE))
    groups = [
        {"params": [p for p in model.parameters() if (p.dim() > 1) == matrices], "weight_decay": decay}
        for matrices, decay in ((True, config.weight_decay), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.eps)
    losses = []
    for step in range(config.num_steps):
        size = config.sequences_per_step
        batch = batches.batch(step, rank=0, world_size=1, micro_step=0, micro_batch_size=size)
        ids, labels = (torch.from_numpy(batch[name]).long() for name in ("input_ids", "labels"))
        loss = plain_loss(model, taught_by, ids, labels.flatten(), config.distillation)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config, config.length())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def plain_loss(model, taught_by, ids, labels, settings):
    hidden = model.hidden(ids).flatten(0, 1)
    with torch.no_grad():
        taught = taught_by.hidden(ids).flatten(0, 1)
        p = (taught_by.lm_head(taught) / settings.temperature).softmax(dim=-1)
    logits = model.lm_head(hidden)
    soft = F.kl_div((logits / settings.temperature).log_softmax(-1), p, reduction="batchmean")
    apart = 1 - F.cosine_similarity(hidden, taught).mean()
    hard = (1 - settings.soft_weight) * F.cross_entropy(logits, labels)
    return hard + settings.soft_weight * settings.temperature**2 * soft + settings.hidden_weight * apart


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_micro_batches_add_up(here, make_taught, precision):
    job = make_taught(precision=precision)
    here.run(job, "whole", micro_batch_size=8)
    here.run(job, "parts", micro_batch_size=1)
    tolerance = 1e-4 if precision is Precision.fp32 else 2e-2
    assert here.losses("parts") == pytest.approx(here.losses("whole"), abs=tolerance)


@pytest.mark.slow
def test_two_ranks_learn_what_one_does(runs, here, make_taught):
    job = make_taught()
    runs.run(
        [runs.order(job, f"taught-{stage}", zero_stage=stage, micro_batch_size=2) for stage in (1, 2, 3)],
        world_size=2,
    )
    here.run(job, "one")
    for stage in (1, 2, 3):
        assert runs.losses(f"taught-{stage}") == pytest.approx(here.losses("one"), abs=1e-4)


def test_a_student_comes_nearer_to_a_teacher_who_knows_more(here, make_job):
    """With few steps and a teacher that has had many, soft targets tell a student more than labels do."""
    here.run(make_job(num_steps=120, job={"model": WIDER}), "teacher")
    alone = here.run(make_job(num_steps=30), "alone").metrics["eval/loss"]
    given = {"teacher": here.folders("teacher")[1]}
    settings = Distillation(temperature=1.0, soft_weight=1.0)
    taught = here.run(make_job(num_steps=30, job=given, distillation=settings), "taught").metrics["eval/loss"]
    assert taught < alone


def test_a_run_goes_on_with_its_teacher_after_a_kill(here, make_taught):
    import shutil

    job = make_taught()
    here.run(job, "whole", checkpoint_every_steps=4)
    shutil.copytree(here.root / "whole", here.root / "resumed")
    shutil.rmtree(here.root / "resumed/output")
    shutil.rmtree(here.root / "resumed/scratch/step-00000008")
    here.run(job, "resumed", checkpoint_every_steps=4)
    assert here.weights("resumed") == here.weights("whole")


def refusal(make_job, teacher, **changes):
    with pytest.raises(ConfigError) as refused:
        check_job(make_job(job={"teacher": teacher}, **changes), vocab_size=VOCAB_SIZE)
    return refused.value


ENCODER = BertConfig(vocab_size=VOCAB_SIZE, hidden_size=32, num_layers=1, num_heads=2)
NARROWER = RnnConfig(vocab_size=VOCAB_SIZE, hidden_size=24, num_layers=1, max_seq_len=64)


@pytest.mark.parametrize(
    ("config", "changes", "words", "field"),
    [
        (dataclasses.replace(WIDER, vocab_size=80), {}, "80 tokens apart, and the student 96", "teacher"),
        (ENCODER, {}, "this bert model cannot teach causal_lm", "teacher"),
        (
            NARROWER,
            {"distillation": DISTILLATION},
            "cannot be drawn to those of a teacher, of 24",
            "hidden_weight",
        ),
        (dataclasses.replace(WIDER, max_seq_len=16), {}, "do not fit a teacher of 16", "seq_len"),
    ],
)
def test_a_teacher_of_something_else_is_refused(make_job, tmp_path, config, changes, words, field):
    refused = refusal(make_job, write_model(tmp_path / "teacher", config), **changes)
    assert words in refused.what
    assert field in refused.where
    assert refused.allowed
    assert refused.do


def test_a_teacher_of_other_tokens_is_refused(make_job, tmp_path, corpus):
    write_model(tmp_path / "teacher", WIDER)
    Tokenizer.load(corpus["tokenizer"].local()).save(tmp_path / "teacher/tokenizer")
    refused = refusal(make_job, open_folder(str(tmp_path / "teacher")))
    assert "a teacher of another tokenizer" in refused.what


def test_settings_without_a_teacher_say_that_there_is_none():
    (problem,) = own_problems(tiny_training(distillation=Distillation(temperature=4.0)), "")
    assert "there is none" in problem.what
    assert own_problems(tiny_training(distillation=Distillation(temperature=4.0)), "large") == []
    assert own_problems(tiny_training(), "") == []


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"soft_weight": 1.5}, {"soft_weight": -0.1}, {"hidden_weight": -1.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    (problem,) = tiny_training(distillation=Distillation(**wrong)).problems()
    assert problem.field == f"distillation.{next(iter(wrong))}"


def test_a_number_has_no_teacher(make_job, tmp_path):
    model = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_layers=1,
        num_heads=2,
        masked_lm_head=False,
        classes=["depth"],
    )
    refused = refusal(
        lambda job, **changes: make_job(job=job | {"model": model}, **changes),
        write_model(tmp_path / "teacher", model),
        objective=Objective.regression,
    )
    assert "regression has no teacher" in refused.what


def test_its_bytes_are_counted():
    assert teacher_bytes(WIDER, tiny_training()) == 2 * teacher_bytes(
        WIDER, tiny_training(precision=Precision.bf16)
    )
    assert teacher_bytes(WIDER, tiny_training()) == sum(
        4 * parameter.numel() for parameter in build_model(WIDER).parameters()
    )
