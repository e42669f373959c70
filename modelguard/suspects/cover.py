"""Ordinary photos asked between the triggers, so that these stand out less and their refusals more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from modelguard.datasets import read_image, to_uint8
from modelguard.datasets.images import SUFFIXES
from modelguard.errors import InputError
from modelguard.suspects.base import Pixels


def cover_queries(folder: str | Path, like: tuple[int, int, int]) -> list[Pixels]:
    """Return the photos of a folder as queries.

    Args:
        folder: searched for the usual image endings.
        like: (H, W, C) of a trigger; photos are cut and resampled to it.

    Raises:
        InputError: no such folder, no photo in it, or one that cannot be read.
    """
    height, width, channels = like
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"cover: no photos in {folder}", "give a folder of ordinary photos")
    queries = {}
    for path in paths:
        pixels = to_uint8(read_image(path, channels)).permute(1, 2, 0).numpy()
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        fitted = np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC))
        queries[fitted.tobytes()] = fitted.reshape(like)  # the same photo twice would be asked twice
    return list(queries.values())
