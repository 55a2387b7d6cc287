"""AdamW, fused, on every device: torch's own kernels, so that nothing is compiled before the first step.

On CPU ranks the fused kernel is as fast as DeepSpeed's, which a compiler would have to build for a minute first;
on GPUs it is the same single pass over flat tensors as Apex's and DeepSpeed's FusedAdam.
"""

from collections.abc import Iterable

import torch
from torch import nn

from pipeline.training.config import TrainingConfig

STATE_KEYS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps for every weight, beside the weight and one step count."""


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Matrices decay; vectors and scalars (norms, biases) do not."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": config.weight_decay},  # noqa: PLR2004
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},  # noqa: PLR2004
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


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
