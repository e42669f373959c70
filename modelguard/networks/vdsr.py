"""VDSR: very deep residual super-resolution (Kim et al., CVPR 2016), and up-scaling around any such net."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.errors import InputError


def bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, H, W) with the anti-aliased Keys kernel (a = -0.5) that PIL and Matlab use, in fp32."""
    return F.interpolate(image.float(), size=size, mode="bicubic", antialias=True, align_corners=False)


class VDSR(nn.Module):
    """`depth` 3x3 convolutions without bias that predict what bicubic up-sampling lost.

    Shapes: bicubic-upsampled (B, channels, H, W) in [0, 1] to the same shape, unclamped. One net serves all
    scales.

    Args:
        depth: number of convolutions, 20 as published.
        channels: 1 for the luma channel, as published.
        width: feature channels.
    """

    def __init__(self, depth: int = 20, channels: int = 1, width: int = 64) -> None:
        super().__init__()
        sizes = [channels, *[width] * (depth - 1), channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU(inplace=True)]
        layers.pop()
        nn.init.normal_(cast(nn.Conv2d, layers[-1]).weight, std=1e-3)
        self.body = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Return the sharpened image."""
        return image + cast(Tensor, self.body(image))


class Upscaled(nn.Module):
    """A host that super-resolves: bicubic up-sampling by `scale`, then `net` at full size.

    Shapes: (B, C, H, W) in [0, 1] to (B, C, scale*H, scale*W).

    Args:
        net: maps an up-sampled image to a sharp one of the same size.
        scale: 2, 3 or 4 in the papers; any whole number from 1 works.
    """

    def __init__(self, net: nn.Module, scale: int) -> None:
        super().__init__()
        if scale < 1:
            raise InputError(f"scale: {scale} is not an up-scaling factor", "use a whole number from 1")
        self.net, self.scale = net, scale

    def forward(self, image: Tensor) -> Tensor:
        """Return the super-resolved image."""
        height, width = image.shape[-2:]
        return cast(Tensor, self.net(bicubic(image, (height * self.scale, width * self.scale))))
