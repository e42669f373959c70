"""Ordinary photos asked between the triggers, so that these stand out less and their refusals more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from modelguard.datasets import read_image, to_uint8
from modelguard.datasets.images import SUFFIXES
from modelguard.errors import InputError
from modelguard.suspects.base import Pixels


def cover_photos(folder: str | Path, name: str = "cover") -> list[Path]:
    """Return the files of a folder with the usual image endings, searched recursively.

    Args:
        folder: of photos.
        name: what an error calls the argument.

    Raises:
        InputError: no such folder, or no photo in it.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{name}: there is no folder {folder}", "give a folder of ordinary photos")
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{name}: no photos in {folder}", "give a folder of ordinary photos")
    return paths


def cover_query(path: Path, like: tuple[int, int, int]) -> Pixels:
    """Return a photo as a query, cut and resampled to (H, W, C) of a trigger.

    Raises:
        InputError: it cannot be read.
    """
    height, width, channels = like
    pixels = to_uint8(read_image(path, channels)).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    fitted = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(fitted).reshape(like)
