"""Rain streaks on clean photos, for hosts that derain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modelguard.datasets.images import to_uint8
from modelguard.errors import InputError


@dataclass(frozen=True)
class RainStreaks:
    """Bright, slanted streaks added to the image: one shower a picture, clipped and rounded to 8 bits.

    The usual linear model of rain, input = clean + streaks. A streak is a drop smeared along a line; all
    streaks of a picture share angle and length, drawn evenly from the ranges, and each has a brightness of
    its own.

    Args:
        density: drops a pixel; 0.005 is steady rain, 0.02 a downpour.
        length: shortest and longest streak in pixels.
        angle: largest slant to either side in degrees from the vertical.
        brightness: of the brightest streak, as a part of full white.
    """

    density: float = 0.006
    length: tuple[float, float] = (10.0, 30.0)
    angle: float = 25.0
    brightness: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise InputError(f"density: {self.density} drops a pixel", "use a number above 0, up to 1")
        if not 1 <= self.length[0] <= self.length[1] < math.inf:
            raise InputError(f"length: {self.length} is no range", "give shortest (from 1 px) and longest")
        if not 0 <= self.angle <= 90:
            raise InputError(f"angle: {self.angle} degrees from the vertical", "use 0 to 90")
        if not 0 < self.brightness <= 1:
            raise InputError(f"brightness: {self.brightness} of full white", "use a number above 0, up to 1")

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (rainy, clean), same shape."""
        spread = torch.rand(2, generator=generator).tolist()
        angle = math.radians(self.angle * (2 * spread[0] - 1))
        length = self.length[0] + (self.length[1] - self.length[0]) * spread[1]
        line = _line(angle, length)
        reach = line.shape[0] // 2
        height, width = (side + 2 * reach for side in clean.shape[1:])  # drops beyond the border reach in
        chance, glow = torch.rand(2, height, width, generator=generator)
        drops = (chance < self.density) * (0.3 + 0.7 * glow) * self.brightness
        streaks = F.conv2d(drops[None, None], line[None, None])[0]
        return to_uint8(clean + streaks.clamp(max=self.brightness)).float() / 255, clean


def _line(angle: float, length: float) -> Tensor:
    """Return a kernel (K, K) of a soft line, `length` px long and about 1.5 px wide, of peak 1."""
    reach = math.ceil(length / 2) + 1
    place = torch.arange(-reach, reach + 1, dtype=torch.float32)
    y, x = torch.meshgrid(place, place, indexing="ij")
    along = y * math.cos(angle) + x * math.sin(angle)
    across = x * math.cos(angle) - y * math.sin(angle)
    inside = (length / 2 + 0.5 - along.abs()).clamp(0, 1)
    return inside * torch.exp(-0.5 * (across / 0.6).square())
