"""Quantising: the thief ships the model in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from modelguard.attacks.base import Layer, Loot, stolen, weight_layers


@dataclass(frozen=True)
class HalfPrecision:
    """Rounds every weight and statistic to fp16; the copy computes in the old precision."""

    @property
    def name(self) -> str:
        """Name in tables."""
        return "fp16"

    @torch.no_grad()
    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        """Return a rounded copy."""
        copy = stolen(model)
        for tensor in chain(copy.parameters(), copy.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
        return copy


@dataclass(frozen=True)
class Int8:
    """Rounds the weights of convolutions and linear layers to int8; the copy computes with them dequantised.

    Symmetric, one scale per output channel: its largest magnitude becomes 127. Biases, batch norm and
    activations stay as they are.
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        return "int8 weights"

    @torch.no_grad()
    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        """Return a rounded copy."""
        copy = stolen(model)
        for layer in weight_layers(copy):
            channels = _by_output(layer)
            scale = channels.abs().amax((1, *range(3, channels.ndim)), keepdim=True) / 127
            scale[scale == 0] = 1  # a dead channel stays zero
            channels.copy_((channels / scale).round() * scale)
        return copy


def _by_output(layer: Layer) -> Tensor:
    """Return a view of the weight with the output channels along the first and third axis."""
    if isinstance(layer, _ConvNd) and layer.transposed:  # (in, out / groups, ...)
        return layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])
    return layer.weight[:, None, None]
