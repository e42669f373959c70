"""The Haar wavelet transform, one level, orthonormal: it keeps the energy of the image.

HiNet (Jing et al., ICCV 2021) uses this scaling, in which the range of the coarse band doubles; other
published nets halve it. The choice sets what a unit of residual is worth, and must be the same in training
and use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modelguard.errors import InputError


def haar(image: Tensor) -> Tensor:
    """Return the four half-size bands of (B, C, H, W) as fp32 (B, 4C, H/2, W/2).

    The bands are coarse, horizontal, vertical and diagonal detail, C channels each.

    Raises:
        InputError: a side is odd.
    """
    if image.shape[-2] % 2 or image.shape[-1] % 2:
        raise InputError(
            f"image: {image.shape[-2]} x {image.shape[-1]} has an odd side", "resize it to even sides"
        )
    image = image.float()
    top, bottom = image[..., 0::2, :], image[..., 1::2, :]
    a, b, c, d = top[..., 0::2], top[..., 1::2], bottom[..., 0::2], bottom[..., 1::2]
    return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], -3) / 2


def inverse_haar(bands: Tensor) -> Tensor:
    """Return the fp32 image (B, C, 2H, 2W) of the bands (B, 4C, H, W) that `haar` gives."""
    coarse, horizontal, vertical, diagonal = bands.float().chunk(4, -3)
    a = coarse + horizontal + vertical + diagonal
    b = coarse - horizontal + vertical - diagonal
    c = coarse + horizontal - vertical - diagonal
    d = coarse - horizontal - vertical + diagonal
    top, bottom = torch.stack([a, b], -1).flatten(-2), torch.stack([c, d], -1).flatten(-2)
    return torch.stack([top, bottom], -2).flatten(-3, -2) / 2


def analyse(image: Tensor, levels: int) -> Tensor:
    """Return the bands of (B, C, H, W) in [0, 1], first brought to [-1, 1], after `levels` transforms."""
    bands = 2 * image - 1
    for _ in range(levels):
        bands = haar(bands)
    return bands


def synthesise(bands: Tensor, levels: int) -> Tensor:
    """Return the image whose bands `analyse` gives, unclamped."""
    for _ in range(levels):
        bands = inverse_haar(bands)
    return (bands + 1) / 2


class WaveletSizes:
    """What follows for a net that works on the bands of `levels` transforms of an RGB image."""

    levels: int

    @property
    def scale(self) -> int:
        """Image pixels to a wavelet pixel, along a side."""
        return int(2**self.levels)

    @property
    def bands(self) -> int:
        """Wavelet bands of an image, colours included."""
        return int(3 * 4**self.levels)
