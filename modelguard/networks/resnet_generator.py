"""The ResNet generator of Johnson et al. (ECCV 2016) and pix2pix: Res9 and Res16."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from modelguard.networks.unet import reflected


class ResNetGenerator(nn.Module):
    """7x7 head, two strided convolutions, residual blocks of two convolutions, two deconvolutions, 7x7 tail.

    Instance norm by each image's own statistics. Predicts the change of the image, in (-1, 1). The published
    code of Zhang et al. has one convolution a block, by a slip of operator precedence; the two meant give
    11,378,179 parameters for nine blocks and 19,639,299 for sixteen (three channels, width 64).

    Shapes: (B, channels, H, W) in [0, 1] of any size to the same, unclamped.

    Args:
        channels: 1 for grey, 3 for colour.
        blocks: residual blocks; 9 or 16 in the paper.
        width: feature channels at full size; four times as many in the blocks.
    """

    def __init__(self, channels: int = 3, blocks: int = 9, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(channels, width, 7), *_norm(width)]
        for inner in (2 * width, 4 * width):
            layers += [nn.Conv2d(inner // 2, inner, 3, 2, 1), *_norm(inner)]
        layers += [_Block(4 * width) for _ in range(blocks)]
        for inner in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(inner, inner // 2, 3, 2, 1, 1), *_norm(inner // 2)]
        layers += [_convolution(width, channels, 7), nn.Tanh()]
        self.body = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(cast(Tensor, module.bias))
        nn.init.normal_(cast(nn.Conv2d, layers[-2]).weight, std=1e-3)  # start near the identity

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image."""
        height, width = image.shape[-2:]
        wide = reflected(image, 8)  # instance norm needs more than one pixel after two halvings
        return cast(Tensor, wide + self.body(2 * wide - 1))[..., :height, :width]


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(width, width, 3),
            *_norm(width),
            _convolution(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.body(x))


def _convolution(before: int, after: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, padding=size // 2, padding_mode="reflect")


def _norm(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(width), nn.ReLU()
