"""Every ZeRO stage on one rank and on two: the losses of a plain PyTorch loop, and of each other."""

import itertools

import pytest
import torch

from pipeline.training.config import Precision

pytestmark = pytest.mark.slow

STAGES = (0, 1, 2, 3)
NUM_STEPS = 24
BF16_STAGES = (1, 2)
CASES = [*((Precision.bf16, each) for each in BF16_STAGES), *((Precision.fp32, each) for each in STAGES)]
"fp16 has tests of its own: few CPUs compute in it."


def name_of(precision, stage, world_size):
    return f"{precision.value}-zero-{stage}-ranks-{world_size}"


@pytest.fixture(scope="module")
def trained(runs, make_job):
    """Runs of both precisions, every stage, one and two ranks, with a checkpoint halfway."""
    for world_size in (1, 2):
        orders = [
            runs.order(
                make_job(precision=precision, num_steps=NUM_STEPS),
                name_of(precision, stage, world_size),
                zero_stage=stage,
                micro_batch_size=2,
                checkpoint_every_steps=NUM_STEPS // 2,
            )
            for precision, stage in CASES
        ]
        runs.run(orders, world_size=world_size)
    return runs


@pytest.fixture(scope="module")
def plain(make_job, plain_losses):
    """Losses of training as anyone would write it: one process, torch only, the whole batch at once."""
    return plain_losses(make_job(num_steps=NUM_STEPS), plain_optimizer)


def plain_optimizer(model, config):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.eps, foreach=False)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_fp32_losses_are_those_of_a_plain_loop(trained, plain, stage, world_size):
    losses = trained.losses(name_of(Precision.fp32, stage, world_size))
    assert losses == pytest.approx(plain, abs=1e-4)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("stage", BF16_STAGES)
def test_bf16_losses_agree_among_stages_and_ranks(trained, stage, world_size):
    reference = trained.losses(name_of(Precision.bf16, 1, 1))
    assert trained.losses(name_of(Precision.bf16, stage, world_size)) == pytest.approx(reference, abs=5e-3)


def test_bf16_learns_as_fp32_does(trained, plain):
    assert trained.losses(name_of(Precision.bf16, 2, 2)) == pytest.approx(plain, abs=2e-2)


MOVES = [
    ((2, 2), (1, 0)),
    ((2, 3), (1, 1)),
    ((1, 0), (2, 3)),
    ((1, 3), (2, 1)),
    ((2, 1), (2, 0)),
]


def moves():
    """Of each precision those that leave a stage which it was trained at."""
    precisions = (Precision.bf16, Precision.fp32)
    return [each for each in itertools.product(precisions, MOVES) if (each[0], each[1][0][1]) in CASES]


@pytest.fixture(scope="module")
def moved(trained, make_job):
    """From the middle of each first run, left by (ranks, stage), to the end on other ranks and stages."""
    orders: dict[int, list[dict]] = {1: [], 2: []}
    for precision, ((ranks, stage), (next_ranks, next_stage)) in moves():
        job = make_job(precision=precision, num_steps=NUM_STEPS)
        order = trained.order(job, f"moved-{precision.value}-{ranks}-{stage}", zero_stage=next_stage)
        halfway = trained.root / name_of(precision, stage, ranks) / f"scratch/step-{NUM_STEPS // 2:08d}"
        order["scratch"].upload(halfway, halfway.name)
        orders[next_ranks].append(order)
    for world_size, of_world in orders.items():
        trained.run(of_world, world_size=world_size)
    return trained


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp32])
def test_a_checkpoint_continues_on_another_topology(moved, precision):
    tolerance = 1e-4 if precision is Precision.fp32 else 5e-3
    for (ranks, stage), _ in (move for of, move in moves() if of is precision):
        stayed = moved.losses(name_of(precision, stage, ranks))
        name = f"moved-{precision.value}-{ranks}-{stage}"
        assert moved.losses(name) == pytest.approx(stayed, abs=tolerance)
