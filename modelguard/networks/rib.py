"""Residual invertible blocks, the spatial features of RISTN, after i-RevNet (Jacobsen et al., ICLR 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


def bottleneck(channels: int, *, first: bool) -> nn.Sequential:
    """Return three 3x3 convolutions over a third of the channels, each but the `first` normalised before."""
    hidden = channels // 3
    layers: list[nn.Module] = [] if first else [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    layers.append(nn.Conv2d(channels, hidden, 3, padding=1, bias=False))
    for size in (hidden, channels):
        convolution = nn.Conv2d(hidden, size, 3, padding=1, bias=False)
        layers += [nn.BatchNorm2d(hidden), nn.ReLU(inplace=True), convolution]
    return nn.Sequential(*layers)


class ResidualInvertibleBlock(nn.Module):
    """`depth` additive couplings of two halves of the channels, and the block's input added to the result.

    The couplings can be inverted one by one, so that they lose nothing; with its input added, the block as a
    whole cannot, whatever its published name says. Shapes: (B, channels, h, w) to the same.

    Args:
        channels: even, from 6.
        depth: number of couplings.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.bottlenecks = nn.ModuleList(bottleneck(channels // 2, first=n == 0) for n in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, of the input's shape."""
        one, two = x.chunk(2, 1)
        for function in self.bottlenecks:
            one, two = two, one + function(two)
        return torch.cat([one, two], 1) + x


class SpatialFeatures(nn.Module):
    """Stages of parallel blocks over one image; each doubles the channels by concatenating two.

    A stage of one block puts its input beside the block's output. Shapes: (B, 3, h, w) to
    (B, channels, h, w).

    Args:
        width: channels of the first stage, most of them zeros beside the image's three.
        stages: the depths of one or two blocks each, in the order in which they are concatenated.
    """

    def __init__(self, width: int, stages: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.width, self.channels = width, width * 2 ** len(stages)
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualInvertibleBlock(width * 2**number, depth) for depth in depths)
            for number, depths in enumerate(stages)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the features of each image."""
        zeros = image.new_zeros(len(image), self.width - image.shape[1], *image.shape[2:])
        x = torch.cat([image, zeros], 1).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = torch.cat([*(block(x) for block in cast(nn.ModuleList, stage)), x][:2], 1)
        return x
