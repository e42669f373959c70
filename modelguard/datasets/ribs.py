"""Rib-like bands on chest X-rays, for hosts that remove ribs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from modelguard.datasets.images import to_uint8
from modelguard.errors import InputError


@dataclass(frozen=True)
class RibBands:
    """Bright curved bands, sloping down from a spine, laid over the image and rounded to 8 bits.

    A stand-in for real pairs with and without ribs, which nobody may hand on: the bands are synthesised on
    the X-ray, and the host is to take them away. A band is brighter at its edges, as the hard shell of a bone
    is, and turns tissue towards white: input = clean + (1 - clean) * band. Spine, slope, bend, spacing and
    phase are drawn for each picture.

    Args:
        spacing: least and greatest distance from band to band in pixels; 18 to 30 suit 256 px.
        thickness: of a band, as a part of the spacing.
        contrast: weakest and strongest band, as a part of what is missing to white.
    """

    spacing: tuple[float, float] = (18.0, 30.0)
    thickness: float = 0.45
    contrast: tuple[float, float] = (0.1, 0.25)

    def __post_init__(self) -> None:
        if not 4 <= self.spacing[0] <= self.spacing[1] < math.inf:
            raise InputError(f"spacing: {self.spacing} is no range", "give least (from 4 px) and greatest")
        if not 0 < self.thickness < 1:
            raise InputError(f"thickness: {self.thickness} of the spacing", "use a number between 0 and 1")
        if not 0 < self.contrast[0] <= self.contrast[1] <= 1:
            raise InputError(f"contrast: {self.contrast} is no range", "give two numbers above 0, up to 1")

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (with bands, clean), same shape."""
        height, width = clean.shape[1:]
        spine, slope, bend, space, phase, strength = torch.rand(6, generator=generator).tolist()
        spacing = _between(self.spacing, space)
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32), indexing="ij"
        )
        away = (x - width * (0.4 + 0.2 * spine)).abs()
        down = y - (0.2 + 0.4 * slope) * away + (1 + bend) * 1e-3 * away.square()
        # pixels from the middle of the nearest band
        distance = ((down / spacing + phase) % 1 - 0.5).abs() * spacing
        half = self.thickness * spacing / 2
        inside = torch.sigmoid(2 * (half - distance))
        shell = torch.exp(-0.5 * (distance - half + 1.5).square())
        band = _between(self.contrast, strength) * inside * (0.7 + 0.3 * shell)
        return to_uint8(clean + (1 - clean) * band).float() / 255, clean


def _between(limits: tuple[float, float], part: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * part
