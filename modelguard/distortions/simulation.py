"""Gradients through distortions that have none."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.distortions.channel import Jpeg, Subsampling, check_images
from modelguard.errors import InputError

# ITU-T T.81, tables K.1 and K.2
_LUMA = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
_CHROMA = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8 for _ in range(4)],
]
# JFIF: RGB to Y, Cb, Cr, full range
_COLOUR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
_STEPS: dict[Subsampling, tuple[int, int]] = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}


class ForwardASL(nn.Module):
    """Forward attack simulation layer (Zhang et al., ACM MM 2021) around any distortion that keeps the size.

    The answer is the distortion's own; the difference it made counts as noise, so gradients pass unchanged.
    `ForwardASL(Quantise())` is rounding with a straight-through gradient, `ForwardASL(Jpeg(50))` real JPEG.

    Args:
        distortion: maps (B, C, H, W) to the same shape.
    """

    def __init__(self, distortion: nn.Module) -> None:
        super().__init__()
        self.distortion = distortion

    def forward(self, image: Tensor) -> Tensor:
        """Return the distorted image."""
        with torch.no_grad():
            noise = self.distortion(image) - image
        distorted: Tensor = image + noise
        return distorted


Rounding = Literal["cubic", "fourier"]


def soft_round(x: Tensor, rounding: Rounding) -> Tensor:
    """Return about the nearest whole numbers, with a gradient.

    Args:
        x: any numbers.
        rounding: "cubic" adds the cubed distance to the nearest number (Shin and Song, NeurIPS workshop
            2017); "fourier" is the first ten terms of the series of rounding, which RIIS names: its
            gradient swings from -4.6 to 21.
    """
    if rounding == "cubic":
        nearest = x.detach().round()
        return nearest + (x - nearest) ** 3
    terms = torch.arange(1, 11, device=x.device, dtype=x.dtype)
    waves = torch.sin(2 * math.pi * terms * (x - x.detach().round())[..., None])
    return x + (waves * (1 - 2 * (terms % 2)) / (math.pi * terms)).sum(-1)


class SimulatedJpeg(nn.Module):
    """JPEG written in differentiable operations, with soft rounding.

    Close to `Jpeg`, not equal: measure with that one, train with this one where the distortion itself should
    pass gradients.

    Args:
        quality: 1 (worst) to 100, as libjpeg counts.
        subsampling: of the chroma; grey images have none.
        rounding: see `soft_round`.
    """

    def __init__(
        self, quality: int, subsampling: Subsampling = "4:2:0", rounding: Rounding = "cubic"
    ) -> None:
        super().__init__()
        if rounding not in get_args(Rounding):
            raise InputError(
                f"rounding: {rounding!r} is not known", f"use one of {', '.join(get_args(Rounding))}"
            )
        self.rounding = rounding
        real = Jpeg(quality, subsampling)  # checks both
        self.quality, self.subsampling = real.quality, real.subsampling
        rows = torch.arange(8.0)
        dct = torch.cos((2 * rows[None] + 1) * rows[:, None] * math.pi / 16) / 2
        dct[0] /= math.sqrt(2)
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        tables = torch.tensor([_LUMA, _CHROMA, _CHROMA])
        self.dct: Tensor
        self.tables: Tensor
        self.colour: Tensor
        self.register_buffer("dct", dct, persistent=False)
        self.register_buffer("tables", ((tables * scale + 50) // 100).clamp(1, 255).float(), persistent=False)
        self.register_buffer("colour", torch.tensor(_COLOUR), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the image as decoded; raises InputError unless C is 1 or 3."""
        check_images(image)
        channels = image.shape[1]
        if channels not in (1, 3):
            raise InputError(f"image: JPEG holds 1 or 3 channels, not {channels}", "give grey or RGB")
        with torch.autocast(image.device.type, enabled=False):  # bf16 products are wrong by 20 grey levels
            decoded = self._decoded(255 * image.float().clamp(0, 1))
        return (decoded / 255).clamp(0, 1).to(image.dtype)

    def _decoded(self, levels: Tensor) -> Tensor:
        if levels.shape[1] == 1:
            return self._code(levels - 128, 0) + 128
        luma, *chroma = torch.einsum("kc,bchw->bkhw", self.colour, levels).chunk(3, 1)
        planes = torch.cat([self._code(luma - 128, 0), *(self._subsampled(plane) for plane in chroma)], 1)
        # the luma's offset of 128 is a grey, the same in all channels
        return torch.einsum("kc,bchw->bkhw", torch.linalg.inv(self.colour), planes) + 128

    def _subsampled(self, plane: Tensor) -> Tensor:
        size, step = plane.shape[-2:], _STEPS[self.subsampling]
        if step == (1, 1):
            return self._code(plane, 1)
        small = F.avg_pool2d(plane, step, ceil_mode=True)
        whole = F.interpolate(self._code(small, 1), scale_factor=step, mode="bilinear")
        return whole[..., : size[0], : size[1]]

    def _code(self, plane: Tensor, table: int) -> Tensor:
        height, width = plane.shape[-2:]
        whole = F.pad(plane, (0, -width % 8, 0, -height % 8), mode="replicate")
        rows, columns = whole.shape[-2] // 8, whole.shape[-1] // 8
        blocks = whole.reshape(len(whole), rows, 8, columns, 8).transpose(2, 3)
        coefficients = self.dct @ blocks @ self.dct.T / self.tables[table]
        rounded = soft_round(coefficients, self.rounding)
        blocks = self.dct.T @ (rounded * self.tables[table]) @ self.dct
        return blocks.transpose(2, 3).reshape(whole.shape)[..., :height, :width]

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"quality={self.quality}, subsampling={self.subsampling}, rounding={self.rounding}"
