"""Each optimizer against a loop of its published formula, and what it is given to update."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.config import GPT2Config
from model.objectives import CausalLM
from model.registry import build_model
from pipeline.training.config import OptimizerKind, TrainingConfig
from pipeline.training.muon import Layout, Muon, Piece, orthogonal_pieces, orthogonalized
from pipeline.training.optimizer import build_optimizer, hidden_matrices, parameter_groups, state_keys
from pipeline.training.uncompiled import without_compiler

NUM_STEPS = 6


def small_model():
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2, max_seq_len=8
    )
    return build_model(config)


def updates(model, steps):
    """Weights after each of some steps on made-up gradients; `steps` gets the step's number."""
    draw = torch.Generator().manual_seed(5)
    found = []
    for step in range(NUM_STEPS):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        steps(step)
        found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    return found


def ours(config):
    model = small_model()
    optimizer = build_optimizer(model, config)
    return updates(model, lambda _: optimizer.step())


def matrices_and_vectors(model):
    return (
        [p for p in model.parameters() if p.dim() > 1],
        [p for p in model.parameters() if p.dim() == 1],
    )


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, True), (0.9, False), (0.9, True)])
def test_sgd_is_the_textbook_s(momentum, nesterov):
    config = TrainingConfig(
        optimizer=OptimizerKind.sgd, learning_rate=0.1, momentum=momentum, nesterov=nesterov
    )
    model = small_model()
    velocity = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}

    @torch.no_grad()
    def steps(_):
        for parameter, moving in velocity.items():
            gradient = parameter.grad + (0.1 * parameter if parameter.dim() > 1 else 0)
            moving.mul_(momentum).add_(gradient)
            parameter.sub_(0.1 * (gradient + momentum * moving if nesterov else moving))

    for mine, wanted in zip(ours(config), updates(model, steps), strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-6, rtol=1e-5)


def test_lion_is_the_paper_s_algorithm():
    config = TrainingConfig(optimizer=OptimizerKind.lion, learning_rate=1e-2, beta1=0.9, beta2=0.99)
    model = small_model()
    momenta = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}

    @torch.no_grad()
    def steps(_):
        for parameter, momentum in momenta.items():
            update = (0.9 * momentum + 0.1 * parameter.grad).sign()
            decay = 0.1 * parameter if parameter.dim() > 1 else 0
            parameter.sub_(1e-2 * (update + decay))
            momentum.copy_(0.99 * momentum + 0.01 * parameter.grad)

    for mine, wanted in zip(ours(config), updates(model, steps), strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torch_s_for_hidden_matrices_and_adamw_for_the_rest(nesterov):
    config = TrainingConfig(optimizer=OptimizerKind.muon, learning_rate=1e-2, nesterov=nesterov)
    model = small_model()
    hidden = [p for name, p in model.named_parameters() if name.startswith("blocks.") and p.dim() > 1]
    matrices, vectors = matrices_and_vectors(model)
    others = [p for p in matrices if all(p is not each for each in hidden)]
    both = [
        torch.optim.Muon(hidden, lr=1e-2, nesterov=nesterov, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [{"params": others, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            lr=1e-2,
            betas=(0.9, 0.95),
        ),
    ]

    def steps(_):
        for optimizer in both:
            optimizer.step()

    for mine, wanted in zip(ours(config), updates(model, steps), strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48)])
def test_orthogonalized_has_singular_values_near_one_and_the_same_directions(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalized(matrix.bfloat16()).float()
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.4
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), (u @ v).flatten(), dim=0)
    assert cosine > 0.95


def test_a_matrix_in_pieces_is_orthogonalized_as_a_whole(monkeypatch):
    """Two ranks hold [a, half of b] and [the other half, c, padding], as ZeRO cuts a flat group."""
    draw = torch.Generator().manual_seed(2)
    shapes = {name: torch.Size(shape) for name, shape in {"a": (4, 6), "b": (6, 4), "c": (2, 5)}.items()}
    values = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    flat = torch.cat([value.flatten() for value in values.values()])
    parts = [flat[:36], torch.cat([flat[36:], torch.zeros(14)])]
    pieces = [
        [Piece("a", start=0, offset=0, numel=24), Piece("b", start=0, offset=24, numel=12)],
        [Piece("b", start=12, offset=0, numel=12), Piece("c", start=0, offset=12, numel=10)],
    ]

    def all_gather(held, mine):
        del mine
        for target, part in zip(held, parts, strict=True):
            target.copy_(part)

    monkeypatch.setattr("torch.distributed.all_gather", all_gather)
    for rank, part in enumerate(parts):
        layout = Layout(shapes, pieces, rank=rank, device=torch.device("cpu"))
        found = list(orthogonal_pieces(part, layout))
        assert [piece for piece, _ in found] == pieces[rank]
        for piece, update in found:
            wanted = orthogonalized(values[piece.name].bfloat16()).flatten()
            assert torch.equal(update, wanted[piece.start : piece.start + piece.numel])


@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_every_parameter_is_in_one_group_and_vectors_do_not_decay(kind):
    model = small_model()
    groups = parameter_groups(model, TrainingConfig(optimizer=kind))
    given = [parameter for group in groups for parameter in group["params"]]
    assert {id(each) for each in given} == {id(each) for each in model.parameters()}
    assert len(given) == len(list(model.parameters()))
    for group in groups:
        assert {bool(group["weight_decay"])} == {each.dim() > 1 for each in group["params"]}


def test_hidden_matrices_are_those_of_the_blocks():
    model = CausalLM(small_model())
    wanted = {name for name, p in model.named_parameters() if ".blocks." in name and p.dim() > 1}
    assert hidden_matrices(model) == wanted - {"model.lm_head.weight"}
    assert len(wanted) == 2 * 4


@pytest.mark.parametrize("kind", list(OptimizerKind))
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_states_named_are_those_that_the_optimizer_keeps(kind, momentum):
    config = TrainingConfig(optimizer=kind, momentum=momentum)
    model = small_model()
    optimizer = build_optimizer(model, config)
    updates(model, lambda _: optimizer.step())
    hidden = hidden_matrices(model)
    for name, parameter in model.named_parameters():
        kept = {
            key
            for key, value in optimizer.state[parameter].items()
            if value is not None and value.numel() > 1
        }
        assert kept == set(state_keys(config, is_hidden_matrix=name in hidden)), name
    assert isinstance(optimizer, Muon) is (kind is OptimizerKind.muon)


WITHOUT_COMPILER = """
import sys
import torch
from pipeline.training.config import OptimizerKind, TrainingConfig
from pipeline.training.optimizer import build_optimizer
from pipeline.training.uncompiled import without_compiler
from pipeline.training.runtime import import_deepspeed

import_deepspeed()
import deepspeed.runtime.zero.muon.muon_optimizer
for kind in OptimizerKind:
    model = torch.nn.Linear(4, 4)
    optimizer = build_optimizer(model, TrainingConfig(optimizer=kind))
    model(torch.ones(2, 4)).sum().backward()
    before = model.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(model.weight, before)
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
"""


def test_no_optimizer_loads_the_compiler():
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "DS_ACCELERATOR": "cpu"}
    subprocess.run([sys.executable, "-c", WITHOUT_COMPILER], check=True, env=os.environ | environment)


def test_a_step_without_the_compiler_is_torchs_own():
    ours, theirs = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        without_compiler(torch.optim.AdamW)(ours.parameters(), lr=0.1),
        torch.optim.AdamW(theirs.parameters(), lr=0.1),
    ]
    for _ in range(3):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert all(not each.requires_grad for each in optimizers[0].state[ours.weight].values())
