"""CNet: plain convolutions, the weakest thief of Zhang et al. (TPAMI 2022)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from modelguard.errors import InputError


class CNet(nn.Module):
    """`depth` 3x3 convolutions with ReLU between them, that predict the change of the image.

    The paper says no more than "several convolutional layers" of 8 to 256 channels. Shapes:
    (B, channels, H, W) in [0, 1] of any size to the same, unclamped.

    Args:
        channels: 1 for grey, 3 for colour.
        width: feature channels.
        depth: convolutions.
    """

    def __init__(self, channels: int = 3, width: int = 64, depth: int = 7) -> None:
        super().__init__()
        if depth < 2:
            raise InputError(f"depth: {depth} is too few convolutions", "use 2 or more")
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        layers.append(nn.Conv2d(width, channels, 3, padding=1))
        self.body = nn.Sequential(*layers)
        for module in self.body:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, module.bias))
        nn.init.normal_(cast(nn.Conv2d, layers[-1]).weight, std=1e-3)

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image."""
        return image + cast(Tensor, self.body(image))
