"""Pruning: the thief sets small weights to zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from modelguard.attacks.base import Loot, stolen, weight_layers
from modelguard.errors import InputError


@dataclass(frozen=True)
class Prune:
    """Sets the smallest weights of every convolution and linear layer to zero, by magnitude within the layer.

    Args:
        rate: part of each layer's weights that goes, in [0, 1]; biases and batch norm stay.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise InputError(f"rate: {self.rate} is not a part of the weights", "use a number from 0 to 1")

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"prune {self.rate:.4g}"

    @torch.no_grad()
    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        """Return a pruned copy."""
        copy = stolen(model)
        for layer in weight_layers(copy):
            weight = layer.weight
            order = weight.abs().flatten().argsort(stable=True)
            smallest = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
            smallest[order[: round(self.rate * weight.numel())]] = True
            weight.masked_fill_(smallest.view(weight.shape), 0)
        return copy
