"""Pictures in whole numbers, as the readers of photos need them: the same on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelguard.errors import InputError

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

SMALLEST, LARGEST = 64, 512
"""Sides of a photo that is asked, in pixels: a smaller one shows too little, a larger one is made smaller."""
ONE = 16
"""Units of a grey level in which everything is counted."""
REACH = 6
"""Most that a pixel's answer may differ from its query and still count in full, in grey levels."""


def fitted(photo: Pixels) -> Pixels:
    """Return a photo (H, W, C) as it is asked: itself, or made smaller to sides of at most 512 px.

    Raises:
        InputError: a side is shorter than 64 px.
    """
    if max(photo.shape[:2]) > LARGEST:
        picture = Image.fromarray(photo[..., 0] if photo.shape[2] == 1 else photo)
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BICUBIC)
        photo = np.asarray(picture).reshape(picture.height, picture.width, photo.shape[2])
    if min(photo.shape[:2]) < SMALLEST:
        raise InputError(
            f"photo: {photo.shape[1]} x {photo.shape[0]} px is too small to carry a mark",
            f"use photos with sides of {SMALLEST} px or more, not longer than {LARGEST // SMALLEST} to 1",
        )
    return photo


def in_size_of_query(response: Pixels, size: tuple[int, int], scale: int) -> Integers:
    """Return the response in 1/16 grey level, squares of `scale` pixels averaged: int64 (H, W, C)."""
    height, width = size
    if response.shape[:2] != (height * scale, width * scale):
        planes = [Image.fromarray(plane) for plane in np.moveaxis(response, 2, 0)]
        to = width * scale, height * scale
        planes = [plane.resize(to, Image.Resampling.BICUBIC) for plane in planes]
        response = np.stack([np.asarray(plane) for plane in planes], axis=2)
    squares = response.astype(np.int64).reshape(height, scale, width, scale, -1)
    averaged: Integers = ONE * squares.sum(axis=(1, 3)) // scale**2
    return averaged


def _sums(plane: Integers, radius: int) -> Integers:
    """Return the sums over (2 radius + 1)^2 pixels, the border repeated."""
    side = 2 * radius + 1
    for axis in (0, 1):
        widths = [(0, 0), (0, 0)]
        widths[axis] = (radius + 1, radius)
        total = np.pad(plane, widths, mode="edge").cumsum(axis=axis)
        total = np.moveaxis(total, axis, 0)
        plane = np.moveaxis(total[side:] - total[:-side], 0, axis)
    return plane


def mean(plane: Integers, radius: int) -> Integers:
    """Return the mean over (2 radius + 1)^2 pixels, the border repeated, rounded down."""
    return _sums(plane, radius) // (2 * radius + 1) ** 2


def wave(turns: Integers) -> Integers:
    """Return a wave of two parabolas, from -128 to 128, at whole 256ths of a turn."""
    half = turns % 128
    found: Integers = np.where(turns % 256 < 128, 1, -1) * (half * (128 - half) >> 5)
    return found


def detail(plane: Integers) -> Integers:
    """Return a picture less its low-passed self."""
    return plane - mean(mean(plane, 3), 3)


def beyond(answer: Integers, query: Integers) -> Integers:
    """Return the fine structure of the answer beyond the multiple of the query's that fits it locally."""
    mine, asked = detail(answer), detail(query)
    shared, own = mean(mine * asked, 6), mean(asked * asked, 6)
    beyond = mine - shared * asked // (own + 4 * ONE**2)
    return np.clip(beyond, -REACH * ONE, REACH * ONE)
