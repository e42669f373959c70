"""What a host undoes: noise, down-scaling. A task turns a clean patch into (input, target)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from modelguard.errors import InputError


class Task(Protocol):
    """Makes a training or test pair; all randomness comes from `generator`."""

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (input, target) for a clean (C, H, W) image in [0, 1]."""
        ...


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    return F.interpolate(image[None], size=size, mode="bicubic", antialias=True, align_corners=False)[0]


def _round(image: Tensor) -> Tensor:
    return image.clamp(0, 1).mul(255).round().div(255)


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise of standard deviation `sigma` (in 8-bit grey levels), unclipped."""

    sigma: float = 25.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise InputError(f"sigma: {self.sigma} is out of range", "use 0 or more")

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (noisy, clean), same shape."""
        return clean + torch.randn(clean.shape, generator=generator) * (self.sigma / 255), clean


@dataclass(frozen=True)
class Downscale:
    """Bicubic down-scaling with antialias, rounded to 8 bits; the target is cut to a multiple of `scale`."""

    scale: int = 2

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (low resolution, clean): (C, H/scale, W/scale) and (C, H, W)."""
        height, width = (side // self.scale for side in clean.shape[1:])
        clean = clean[:, : height * self.scale, : width * self.scale]
        return _round(_resize(clean, height, width)), clean


@dataclass(frozen=True)
class BicubicLoss:
    """Down-scaling by one of `scales` and bicubic up-scaling back: the input VDSR sharpens.

    The image is cut to a multiple of all `scales`, so that patches of one size stay of one size.
    """

    scales: tuple[int, ...] = (2, 3, 4)

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (up-scaled, clean), same shape."""
        scale = self.scales[int(torch.randint(len(self.scales), (1,), generator=generator))]
        common = math.lcm(*self.scales)
        height, width = (side // common * common for side in clean.shape[1:])
        low, clean = Downscale(scale)(clean[:, :height, :width], generator)
        return _resize(low, clean.shape[1], clean.shape[2]), clean


@dataclass(frozen=True)
class Thumbnail:
    """A random square of the image, bicubically shrunk to `side` pixels and rounded; input and target alike.

    The square's side lies anywhere from `side` to the shorter side of the image, for details of all scales.
    """

    side: int = 128

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the square twice, (C, side, side)."""
        height, width = clean.shape[1:]
        draws = torch.randint(2**31, (3,), generator=generator).tolist()
        size = self.side + draws[0] % (min(height, width) - self.side + 1)
        top, left = draws[1] % (height - size + 1), draws[2] % (width - size + 1)
        square = clean[:, top : top + size, left : left + size]
        if size > self.side:
            square = _round(_resize(square, self.side, self.side))
        return square, square
