"""DnCNN: residual convolutional denoiser (Zhang et al., IEEE TIP 2017)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from modelguard.errors import InputError


class DnCNN(nn.Module):
    """`depth` 3x3 convolutions that predict the noise; `forward` returns the clean image.

    Shapes: (B, channels, H, W) in [0, 1] to the same shape, unclamped.

    Args:
        depth: number of convolutions; 17 for one known noise level, 20 for blind or super-resolution use.
        channels: 1 for grey, 3 for colour.
        width: feature channels.
        batch_norm: batch norm after every middle convolution; without it those carry a bias, which is the
            form published denoisers take once their batch norm is merged.
    """

    def __init__(self, depth: int = 17, channels: int = 1, width: int = 64, batch_norm: bool = True) -> None:
        super().__init__()
        if depth < 3:
            raise InputError(
                f"depth: {depth} is too few convolutions", "use 3 or more; the published nets use 17 or 20"
            )
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width, eps=1e-4, momentum=0.05))
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Conv2d(width, channels, 3, padding=1))
        self.body = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, 2**0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():  # start near the identity: the residual is small beside the image
            cast(nn.Conv2d, layers[-1]).weight.mul_(0.1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the denoised image."""
        return image - cast(Tensor, self.body(image))
