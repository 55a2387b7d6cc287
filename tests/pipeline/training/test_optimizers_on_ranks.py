"""Every optimizer at every ZeRO stage, on one rank and on two: a plain loop's losses, and checkpoints that move."""

import itertools
import json

import pytest
import torch

from pipeline.training.config import OptimizerKind, Precision

pytestmark = pytest.mark.slow

STAGES, BF16_STAGES = (0, 2, 3), (1,)
"ZeRO 1 and 2 differ in bf16 only."
NUM_STEPS = 12
RATES = {OptimizerKind.sgd: 0.3, OptimizerKind.lion: 1e-3, OptimizerKind.muon: 3e-3}
TOLERANCES = {OptimizerKind.sgd: 1e-4, OptimizerKind.lion: 5e-3, OptimizerKind.muon: 5e-3}
"""Sums in another order differ in the last bits. A sign, and a matrix that is rounded to bf16, make more of that."""


def job_of(make_job, kind, precision=Precision.fp32):
    """With a mean of the weights, which what is evaluated at the end is taken from."""
    rate = RATES[kind]
    return make_job(
        optimizer=kind, learning_rate=rate, precision=precision, num_steps=NUM_STEPS, ema_decay=0.9
    )


def evaluated(trained, name):
    lines = (trained.root / name / "output/logs/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["metrics"]["eval/loss"] for line in lines if "eval/loss" in line]


def name_of(kind, stage, world_size, precision=Precision.fp32):
    return f"{kind.value}-{precision.value}-zero-{stage}-ranks-{world_size}"


@pytest.fixture(scope="module")
def trained(runs, make_job):
    """Each optimizer in fp32 at every stage, and in bf16 where stages differ, with a checkpoint halfway."""
    cases = [*itertools.product([Precision.fp32], STAGES), *itertools.product([Precision.bf16], BF16_STAGES)]
    for world_size in (1, 2):
        orders = [
            runs.order(
                job_of(make_job, kind, precision),
                name_of(kind, stage, world_size, precision),
                zero_stage=stage,
                micro_batch_size=4,
                checkpoint_every_steps=6,
            )
            for kind, (precision, stage) in itertools.product(RATES, cases)
        ]
        runs.run(orders, world_size=world_size)
    return runs


def plain_sgd(model, config):
    return torch.optim.SGD(
        groups_of(model, config), momentum=config.momentum, nesterov=config.nesterov, foreach=False
    )


def plain_muon(model, config):
    hidden = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.dim() > 1]
    rest = groups_of(model, config, leave_out=hidden)
    return [
        torch.optim.Muon(hidden, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(config.beta1, config.beta2), eps=config.eps, foreach=False),
    ]


class PlainLion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2, one parameter after the other."""

    def __init__(self, groups, betas):
        super().__init__(groups, {"lr": 1.0, "betas": betas})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = torch.sign(beta1 * m + (1 - beta1) * p.grad)
                p.sub_(group["lr"] * (update + group["weight_decay"] * p))
                m.copy_(beta2 * m + (1 - beta2) * p.grad)


def plain_lion(model, config):
    return PlainLion(groups_of(model, config), (config.beta1, config.beta2))


def groups_of(model, config, leave_out=()):
    left = [p for p in model.parameters() if all(p is not each for each in leave_out)]
    return [
        {"params": [p for p in left if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in left if p.dim() <= 1], "weight_decay": 0.0},
    ]


PLAIN = {OptimizerKind.sgd: plain_sgd, OptimizerKind.lion: plain_lion, OptimizerKind.muon: plain_muon}


@pytest.fixture(scope="module")
def plain(make_job, plain_losses):
    return {kind: plain_losses(job_of(make_job, kind), PLAIN[kind]) for kind in RATES}


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", list(RATES))
def test_fp32_losses_are_those_of_a_plain_loop(trained, plain, kind, stage, world_size):
    losses = trained.losses(name_of(kind, stage, world_size))
    assert losses == pytest.approx(plain[kind], abs=TOLERANCES[kind])
    assert losses[-1] < losses[0] - 0.05
    (mean,) = evaluated(trained, name_of(kind, stage, world_size))
    assert [mean] == pytest.approx(evaluated(trained, name_of(kind, 0, 1)), abs=TOLERANCES[kind])


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("stage", BF16_STAGES)
@pytest.mark.parametrize("kind", list(RATES))
def test_bf16_learns_as_fp32_does(trained, plain, kind, stage, world_size):
    losses = trained.losses(name_of(kind, stage, world_size, Precision.bf16))
    assert losses == pytest.approx(plain[kind], abs=3e-2)


MOVES = [((2, 3), (1, 2)), ((2, 2), (1, 0)), ((1, 0), (2, 3))]


@pytest.mark.parametrize("moves", [MOVES[:1], pytest.param(MOVES[1:], marks=pytest.mark.soak)])
def test_a_checkpoint_continues_on_another_topology(trained, make_job, moves):
    """From the middle of each first run, left by (ranks, stage), to the end on other ranks and stages."""
    orders: dict[int, list[dict]] = {}
    for kind, ((ranks, stage), (next_ranks, next_stage)) in itertools.product(RATES, moves):
        order = trained.order(
            job_of(make_job, kind), f"moved-{kind.value}-{ranks}-{stage}", zero_stage=next_stage
        )
        halfway = trained.root / name_of(kind, stage, ranks) / "scratch/step-00000006"
        order["scratch"].upload(halfway, halfway.name)
        orders.setdefault(next_ranks, []).append(order)
    for world_size, of_world in orders.items():
        trained.run(of_world, world_size=world_size)
    for kind, ((ranks, stage), _) in itertools.product(RATES, moves):
        stayed, moved = name_of(kind, stage, ranks), f"moved-{kind.value}-{ranks}-{stage}"
        assert trained.losses(moved) == pytest.approx(trained.losses(stayed), abs=TOLERANCES[kind])
        mean = evaluated(trained, stayed)
        assert evaluated(trained, moved) == pytest.approx(mean, abs=TOLERANCES[kind])
