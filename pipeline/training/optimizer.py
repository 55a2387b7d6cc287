"""Optimizers from torch's own kernels, so that nothing is compiled before the first step.

On CPU ranks torch's fused AdamW is as fast as DeepSpeed's, which a compiler would have to build for a minute first; on
GPUs it is the same single pass over flat tensors as Apex's and DeepSpeed's FusedAdam.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from model.head import VocabularyHead
from pipeline.training import lion, muon
from pipeline.training.config import OptimizerKind, TrainingConfig
from pipeline.training.lion import Lion
from pipeline.training.muon import Muon
from pipeline.training.uncompiled import without_compiler

STEP = "step"
ADAM_STATES = ("exp_avg", "exp_avg_sq")
AVERAGE = "ema"
"""The running mean of the weights, kept among the states; `pipeline.training.average`."""


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Matrices decay; vectors and scalars (norms, biases) do not."""
    groups = parameter_groups(model, config)
    rate, betas = config.learning_rate, (config.beta1, config.beta2)
    if config.optimizer is OptimizerKind.sgd:
        nesterov = config.nesterov and config.momentum > 0
        return without_compiler(torch.optim.SGD)(
            groups, lr=rate, momentum=config.momentum, nesterov=nesterov, fused=True
        )
    if config.optimizer is OptimizerKind.lion:
        return without_compiler(Lion)(groups, lr=rate, betas=betas, weight_decay=config.weight_decay)
    if config.optimizer is OptimizerKind.muon:
        return without_compiler(Muon)(groups, lr=rate, betas=betas, eps=config.eps)
    return without_compiler(torch.optim.AdamW)(groups, lr=rate, betas=betas, eps=config.eps, fused=True)


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Matrices, vectors, and with muon the hidden matrices apart; none without a parameter."""
    trainable = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    hidden = hidden_matrices(model) if config.optimizer is OptimizerKind.muon else set()
    by_muon = {"orthogonal": True, "momentum": config.momentum, "nesterov": config.nesterov}
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trainable if p.dim() >= 2 and name not in hidden]},  # noqa: PLR2004
        {"params": [p for name, p in trainable if name in hidden], **by_muon},
    ]
    for group in groups:
        group["weight_decay"] = config.weight_decay
    vectors = {"params": [p for _, p in trainable if p.dim() < 2], "weight_decay": 0.0}  # noqa: PLR2004
    return [group for group in (*groups, vectors) if group["params"]]


def hidden_matrices(model: nn.Module) -> set[str]:
    """Names of the linear layers' weights between the embedding and the vocabulary head: what Muon is for.

    A matrix that holds several (queries, keys and values) is orthogonalized as a whole.
    """
    return {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not isinstance(module, VocabularyHead)
    }


def state_keys(config: TrainingConfig, *, is_hidden_matrix: bool) -> tuple[str, ...]:
    """What is kept for every weight of a parameter, beside the weight and AdamW's one step count."""
    average = (AVERAGE,) if config.ema_decay else ()
    return (*optimizer_keys(config, is_hidden_matrix=is_hidden_matrix), *average)


def optimizer_keys(config: TrainingConfig, *, is_hidden_matrix: bool) -> tuple[str, ...]:
    """Of these, what the optimizer itself goes by."""
    if config.optimizer is OptimizerKind.sgd:
        return ("momentum_buffer",) if config.momentum else ()
    if config.optimizer is OptimizerKind.lion:
        return (lion.MOMENTUM,)
    if config.optimizer is OptimizerKind.muon and is_hidden_matrix:
        return (muon.MOMENTUM,)
    return ADAM_STATES


@torch.no_grad()
def add_to_average(optimizer: torch.optim.Optimizer, *, decay: float, num_updates: int) -> None:
    """Let the mean take up the weights of the newest update, which is number `num_updates`, from 1."""
    weight = (1.0 - decay) / (1.0 - decay**num_updates)
    for weights, state in optimizer.state.items():
        if AVERAGE in state:
            state[AVERAGE].lerp_(weights, weight)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def clip_gradients(parameters: Iterable[nn.Parameter], *, max_norm: float) -> torch.Tensor:
    """Scale all gradients in place so that their norm is at most `max_norm` (0: never); their norm before, fp32.

    Summed in fp64 with the same formula as DeepSpeed's partitioned stages. Torch's own sum in fp32 is 3e-5 off
    for two million values, and early training makes a percent of that within thirty steps.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients])
    norm = norms.square().sum().float().sqrt()
    if max_norm and torch.isfinite(norm):
        scale = 1.0 / ((norm + 1e-6) / max_norm).clamp(min=1.0)
        for gradient in gradients:
            gradient.mul_(scale)
    return norm
