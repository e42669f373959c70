"""CEILNet with dilated residual blocks: reads a hidden picture out of an image.

The edge network of Fan et al. (ICCV 2017) in the form Zhang et al. (TPAMI 2022) use as their extractor R.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from modelguard.networks.unet import cut, reflected

DILATIONS = (2, 2, 2, 2, 4, 4, 4, 4, 1)


class CEILNet(nn.Module):
    """Three convolutions, nine residual blocks at half size, and back; instance norm throughout.

    Shapes: (B, in_channels, H, W) in [0, 1] to (B, out_channels, H, W), at least 0 and open above. Odd sides
    are extended by reflection and cut back.

    Args:
        in_channels: of the image.
        out_channels: of the picture in it.
        width: feature channels, 128 as published.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, width: int = 128) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_block(nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)),
            *_block(nn.Conv2d(width, width, 3, 1, 1, bias=False)),
            *_block(nn.Conv2d(width, width, 3, 2, 1, bias=False)),
            *(_Residual(width, dilation) for dilation in DILATIONS),
            *_block(nn.ConvTranspose2d(width, width, 4, 2, 1)),
            *_block(nn.Conv2d(width, width, 3, 1, 1)),
        )
        self.tail = nn.Conv2d(width, out_channels, 1)
        # White, what most training images hold, and far from where the last ReLU passes no gradient.
        nn.init.ones_(cast(Tensor, self.tail.bias))

    def forward(self, image: Tensor) -> Tensor:
        """Return the picture."""
        height, width = image.shape[-2:]
        picture: Tensor = self.tail(self.body(reflected(image, 2))).relu()
        return cut(picture, height, width)


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        first, second = (
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False) for _ in range(2)
        )
        self.body = nn.Sequential(*_block(first), second, nn.InstanceNorm2d(width, affine=True))

    def forward(self, x: Tensor) -> Tensor:
        return (x + cast(Tensor, self.body(x))).relu()


def _block(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels, affine=True), nn.ReLU()]
