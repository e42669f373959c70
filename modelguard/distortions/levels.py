"""Kind and strength of a distortion as three numbers, for nets that adapt to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelguard.distortions.channel import Jpeg, Noise, Poisson, Quantise
from modelguard.distortions.photographed import PrintAndPhoto
from modelguard.distortions.simulation import ForwardASL, SimulatedJpeg
from modelguard.errors import InputError

LEVELS = 3
"""Gaussian noise, shot noise, JPEG; each 0 where there is none and about 1 where there is much."""


def level_of(distortion: nn.Module) -> Tensor:
    """Return the level of a distortion, fp32 (LEVELS,): sigma / 10, shot noise or not, (101 - quality) / 61.

    Of `PrintAndPhoto` it is that of the middle of its ranges; blur and tilt have no number.

    Raises:
        InputError: it is none of `Quantise`, `nn.Identity`, `Noise`, `Poisson`, `Jpeg`, `SimulatedJpeg` and
            `PrintAndPhoto`.
    """
    if isinstance(distortion, ForwardASL):
        distortion = distortion.distortion
    if isinstance(distortion, Noise):
        return torch.tensor([distortion.sigma / 10, 0.0, 0.0])
    if isinstance(distortion, Poisson):
        return torch.tensor([0.0, 1.0, 0.0])
    if isinstance(distortion, (Jpeg, SimulatedJpeg)):
        return torch.tensor([0.0, 0.0, (101 - distortion.quality) / 61])
    if isinstance(distortion, PrintAndPhoto):
        return torch.tensor([sum(distortion.noise) / 20, 0.0, (101 - sum(distortion.quality) / 2) / 61])
    if isinstance(distortion, (Quantise, nn.Identity)):
        return torch.zeros(LEVELS)
    raise InputError(
        f"distortion: {distortion!r} has no level", "use Noise, Poisson, Jpeg or Quantise, or None to guess"
    )


def nearest(level: Tensor) -> nn.Module:
    """Return the distortion that a level of (LEVELS,), such as an estimate, is nearest to."""
    kind = int(level.argmax())
    value = float(level[kind])
    if value < 0.05:
        return Quantise()
    if kind == 0:
        return Noise(10 * value)
    return Poisson() if kind == 1 else Jpeg(min(100, max(1, round(101 - 61 * value))))
