"""Bits to watermark features and back: squeeze-and-excitation nets on one tile, repeated over the image.

DBMARK leaves open how the h x w message map is expanded to the size of the image. Here it is repeated: every
part of the image as large as a tile holds all bits, which is what surviving crop and cropout takes. The way
back averages the repeats, weighted by how far each place can be trusted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    # circular: the repeated tile has no seams
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="circular")


def _norm(width: int) -> nn.GroupNorm:
    # Not batch norm, as in SENet: a batch sees one distortion, so its statistics are not those of later use.
    return nn.GroupNorm(max(1, width // 8), width)


def _maps(bits: int, tile: int) -> int:
    return math.ceil(2 * bits / tile**2)  # at least two values a bit


class SEBottleneck(nn.Module):
    """Residual block whose channels are weighted by what the whole map holds (Hu et al., CVPR 2018).

    Shapes: (B, width, H, W) to the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 1),
            _norm(width),
            nn.ReLU(inplace=True),
            _convolution(width, width),
            _norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1),
            _norm(width),
        )
        squeezed = max(1, width // 8)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the features after the block."""
        y = self.body(x)
        return torch.relu(x + y * self.gate(y))


class MessageProcessor(nn.Module):
    """Bits to one tile of watermark features: a linear layer to maps of tile x tile values, then SE blocks.

    Shapes: (B, bits) of -1 and +1 to (B, channels, tile, tile).

    Args:
        bits: length of a message.
        channels: of the features.
        tile: side of the tile; there are as many maps of it as give two values a bit or more.
        width: of the SE blocks.
        blocks: how many.
    """

    def __init__(self, bits: int, channels: int, tile: int, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.shape = (_maps(bits, tile), tile, tile)
        self.spread = nn.Linear(bits, math.prod(self.shape))
        self.body = nn.Sequential(
            _convolution(self.shape[0], width),
            _norm(width),
            nn.ReLU(inplace=True),
            *(SEBottleneck(width) for _ in range(blocks)),
            _convolution(width, channels),
        )

    def forward(self, signs: Tensor) -> Tensor:
        """Return the tile."""
        tile: Tensor = self.body(self.spread(signs).unflatten(1, self.shape))
        return tile


class InverseProcessor(nn.Module):
    """Watermark features to soft bits: features, weighted by a trust, folded into one tile, then SE blocks.

    Shapes: (B, channels, H, W), whole tiles high and wide, to (B, bits); above 0 reads as a 1.

    Args:
        bits: length of a message.
        channels: of the features.
        tile: side of the tile.
        width: of the SE blocks.
        blocks: how many act on the tile; one more sees all of the image.
    """

    def __init__(self, bits: int, channels: int, tile: int, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.tile, maps = tile, _maps(bits, tile)
        self.head = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), _norm(width), nn.ReLU(inplace=True), SEBottleneck(width)
        )
        self.trust = nn.Conv2d(width, 1, 3, padding=1)
        self.features = nn.Conv2d(width, width, 1)
        self.body = nn.Sequential(*(SEBottleneck(width) for _ in range(blocks)), _convolution(width, maps))
        self.gather = nn.Linear(maps * tile**2, bits)

    def forward(self, features: Tensor) -> Tensor:
        """Return one soft value a bit."""
        seen = self.head(features)
        trust = torch.sigmoid(self.trust(seen).float())
        summed = self._fold(self.features(seen).float() * trust)
        values: Tensor = self.gather(self.body(summed / (self._fold(trust) + 1e-3)).flatten(1))
        return values.float()

    def _fold(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[2] // self.tile, x.shape[3] // self.tile
        return x.reshape(*x.shape[:2], rows, self.tile, columns, self.tile).sum((2, 4))
