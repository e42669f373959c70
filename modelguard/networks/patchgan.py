"""PatchGAN: a discriminator that judges every patch of an image (Isola et al., CVPR 2017)."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from torch import Tensor, nn


class PatchGAN(nn.Module):
    """Four strided 3x3 convolutions, instance norm on all but the first, and one logit for every 16x16 px.

    Shapes: (B, channels, H, W) in [0, 1] to (B, 1, H/16, W/16), rounded up; sides above 16 px.

    Args:
        channels: 1 for grey, 3 for colour.
        width: feature channels of the first layer; they double to 8 * width.
    """

    def __init__(self, channels: int = 1, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 2, 1), nn.LeakyReLU(0.2)]
        for before, after in pairwise(width * 2**level for level in range(4)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.InstanceNorm2d(after), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(8 * width, 1, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits: above 0.5 for real, as least-squares training sets them."""
        return cast(Tensor, self.body(image))
