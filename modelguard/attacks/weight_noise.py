"""Noise on the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from modelguard.attacks.base import Loot, stolen, weight_layers
from modelguard.errors import InputError


@dataclass(frozen=True)
class WeightNoise:
    """Adds white Gaussian noise to the weights of every convolution and linear layer.

    Args:
        relative_sigma: its standard deviation as a part of the root mean square of the layer's weights.
        seed: of the noise.
    """

    relative_sigma: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.relative_sigma < math.inf:
            raise InputError(
                f"relative_sigma: {self.relative_sigma} is no standard deviation", "use a number from 0"
            )

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"weight noise {self.relative_sigma:.4g}"

    @torch.no_grad()
    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        """Return a noisy copy."""
        copy = stolen(model)
        generator = torch.Generator().manual_seed(self.seed)
        for layer in weight_layers(copy):
            weight = layer.weight
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            weight.add_(noise * weight.square().mean().sqrt() * self.relative_sigma)
        return copy
