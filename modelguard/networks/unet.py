"""U-Net: encoder-decoder with skips, as in pix2pix (Isola et al., CVPR 2017)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.errors import InputError


class UNet(nn.Module):
    """`levels` strided 4x4 convolutions down and as many up, with batch norm and a skip at every level.

    Shapes: (B, in_channels, H, W) of any size to (B, out_channels, H, W) in [0, 1]. A side that is no
    multiple of 2**levels is extended by reflection and cut back.

    Args:
        in_channels: of the input; twice the image's when a mark is concatenated.
        out_channels: of the output image.
        levels: halvings; 7 reaches 2x2 from 256 px, as Zhang et al. (TPAMI 2022) use it.
        width: feature channels of the first level; they double up to 8 * width.
    """

    def __init__(self, in_channels: int, out_channels: int, levels: int = 7, width: int = 64) -> None:
        super().__init__()
        if levels < 2:
            raise InputError(f"levels: {levels} is too few for a skip", "use 2 or more; the paper uses 7")
        self.multiple = 2**levels
        widths = [width * min(2**level, 8) for level in range(levels)]
        self.down = nn.ModuleList([_convolution(in_channels, width)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * width, out_channels, 4, 2, 1)])
        for level, (outer, inner) in enumerate(pairwise(widths), start=2):
            innermost = level == levels
            norm = nn.Identity() if innermost else nn.BatchNorm2d(inner)
            self.down.append(nn.Sequential(_convolution(outer, inner), norm))
            deconvolution = nn.ConvTranspose2d(inner * (1 if innermost else 2), outer, 4, 2, 1, bias=False)
            self.up.insert(0, nn.Sequential(deconvolution, nn.BatchNorm2d(outer)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, image: Tensor) -> Tensor:
        """Return the output image."""
        height, width = image.shape[-2:]
        x, skips = reflected(image, self.multiple), list[Tensor]()
        for layer in self.down:
            x = layer(x if not skips else F.leaky_relu(x, 0.2))
            skips.append(x)
        skips.pop()
        for layer in self.up:
            x = layer(x.relu())
            if skips:
                x = torch.cat([skips.pop(), x], dim=1)
        # in the input's precision: under autocast a bf16 sigmoid would be coarser than 8 bits
        return cut(x, height, width).to(image.dtype).sigmoid()


def reflected(image: Tensor, multiple: int) -> Tensor:
    """Extend (..., H, W) at the bottom and right by reflection until both sides are multiples of `multiple`.

    Sides shorter than what is missing are reflected more than once, which `F.pad` cannot. Nothing here and in
    `cut` depends on whether anything is missing, so that an exported net takes images of all sizes.
    """
    for dim in (-2, -1):
        size = image.shape[dim]
        period = max(2 * size - 2, 1)
        place = torch.arange(size + -size % multiple, device=image.device) % period
        image = image.index_select(dim, torch.minimum(place, period - place) % size)
    return image


def cut(image: Tensor, height: int, width: int) -> Tensor:
    """Return the first rows and columns of (..., H, W): the inverse of `reflected`."""
    for dim, size in ((-2, height), (-1, width)):
        image = image.index_select(dim, torch.arange(size, device=image.device))
    return image


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 4, 2, 1, bias=False)
