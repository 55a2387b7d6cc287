"""Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864), and how they are stretched to longer contexts.

Letters: B batch, T time, H heads, D head dim.
"""

import math

import torch
from torch import Tensor

from model.config import RopeKind, RopeScaling


def rotary_angles(
    position_ids: Tensor, *, head_dim: int, theta: float, scaling: RopeScaling
) -> tuple[Tensor, Tensor]:
    """Tables cos and sin [.., T, 1, D/2] in fp32 of each position's angles (Su et al. 2021, eq. 15).

    Computed anew in each forward and never stored: a buffer would be rounded when the model is cast to bf16.
    """
    if scaling.kind is RopeKind.dynamic:
        theta = _dynamic_theta(position_ids, head_dim=head_dim, theta=theta, scaling=scaling)
    half = torch.arange(0, head_dim, 2, dtype=torch.float32, device=position_ids.device)
    wavelength_inverse = 1.0 / (theta ** (half / head_dim))  # [D/2]
    match scaling.kind:
        case RopeKind.linear:  # Chen et al. 2023, https://arxiv.org/abs/2306.15595, eq. 4
            wavelength_inverse = wavelength_inverse / scaling.factor
        case RopeKind.yarn:
            wavelength_inverse = _yarn(wavelength_inverse, theta=theta, scaling=scaling)
        case RopeKind.llama3:
            wavelength_inverse = _llama3(wavelength_inverse, scaling=scaling)
    angles = position_ids[..., None].float() * wavelength_inverse  # [.., T, D/2]
    cos, sin = angles.cos().unsqueeze(-2), angles.sin().unsqueeze(-2)
    if (
        scaling.kind is RopeKind.yarn and scaling.factor > 1
    ):  # a temperature of attention: eq. 22, both sides of Q K^T
        longer = 0.1 * math.log(scaling.factor) + 1
        return cos * longer, sin * longer
    return cos, sin


def rotate(x: Tensor, *, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i+D/2}) of x [B, T, H, D] by their angles: the rotate-half layout of transformers."""
    left, right = x.chunk(2, dim=-1)  # [B, T, H, D/2] each
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


def _dynamic_theta(position_ids: Tensor, *, head_dim: int, theta: float, scaling: RopeScaling) -> float:
    """The base by which the longest wavelength just covers a longer sequence (YaRN paper, section 3.1 and eq. 17)."""
    assert scaling.trained_seq_len is not None
    longer = max(1.0, (int(position_ids.max()) + 1) / scaling.trained_seq_len)
    stretched: float = theta * (scaling.factor * longer - (scaling.factor - 1)) ** (head_dim / (head_dim - 2))
    return stretched


def _yarn(wavelength_inverse: Tensor, *, theta: float, scaling: RopeScaling) -> Tensor:
    """Peng et al. 2023, https://arxiv.org/abs/2309.00071, section 3.2: long wavelengths are stretched, short ones stay.

    A ramp lies between the dimensions that turn beta_fast and beta_slow times over the trained length (eq. 17 to 20).
    """
    assert scaling.trained_seq_len is not None
    num_pairs, trained = len(wavelength_inverse), scaling.trained_seq_len

    def pair_that_turns(times: float) -> float:
        return num_pairs * math.log(trained / (times * 2 * math.pi)) / math.log(theta)

    low = max(0, math.floor(pair_that_turns(scaling.beta_fast)))
    high = min(2 * num_pairs - 1, math.ceil(pair_that_turns(scaling.beta_slow)))
    pairs = torch.arange(num_pairs, dtype=torch.float32, device=wavelength_inverse.device)
    stretched = ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)  # fraction
    return wavelength_inverse / scaling.factor * stretched + wavelength_inverse * (1 - stretched)


def _llama3(wavelength_inverse: Tensor, *, scaling: RopeScaling) -> Tensor:
    """LLaMA 3.1 (Grattafiori et al. 2024, and the code published with it): as YaRN, with a ramp over frequencies.

    Wavelengths above trained_seq_len / low_frequency are stretched by the factor, those below trained_seq_len /
    high_frequency stay.
    """
    assert scaling.trained_seq_len is not None
    times = scaling.trained_seq_len / (2 * math.pi / wavelength_inverse)  # turns over the trained length
    ramp = (times - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency)
    kept = ramp.clamp(0, 1)
    return (1 - kept) * wavelength_inverse / scaling.factor + kept * wavelength_inverse
