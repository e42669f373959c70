"""Any usual form of an image to floats and back, losing nothing but what the mark changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from modelguard.datasets import to_uint8
from modelguard.errors import InputError

Picture = Tensor | npt.NDArray[np.uint8] | Image.Image | Path | str
AnyPicture = TypeVar("AnyPicture", Tensor, npt.NDArray[np.uint8], Image.Image)
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


@dataclass(frozen=True)
class Opened:
    """An image as colour (B, 1 or 3, H, W) in [0, 1] and what is put back unchanged beside it."""

    colour: Tensor
    alpha: Tensor | None

    def rounded(self, colour: Tensor) -> Tensor:
        """Return another `colour` with the alpha of this, 8 bits, (B, C, H, W)."""
        return to_uint8(colour if self.alpha is None else torch.cat([colour, self.alpha], 1))


def read(path: str | Path) -> Image.Image:
    """Return the picture in a file, decoded and turned as its EXIF data says.

    Raises:
        InputError: no such file, not a whole image, more than one frame, or pixels of another kind than 8-bit
            grey or RGB, with or without alpha.
    """
    try:
        with Image.open(path) as picture:
            _check_depth(picture)
            picture.load()
            check_mode(picture, str(path))
            return ImageOps.exif_transpose(picture)  # what is seen is marked; others drop the EXIF data
    except FileNotFoundError as error:
        raise InputError(f"image: there is no file {path}", "check the path") from error
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders answer damaged files with errors of almost any type
        raise InputError(f"image: {path} is not a readable image ({error})", "replace the file") from error


def check_mode(picture: Image.Image, name: str) -> None:
    """Raise InputError unless a picture is one frame of 8-bit grey or RGB."""
    # an MPO is a photo of a camera with a preview or a gain map behind it
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        raise InputError(f"image: {name} has {getattr(picture, 'n_frames', 1)} frames", "give single frames")
    if "transparency" in picture.info:
        raise InputError(
            f"image: {name} has a transparent colour", "convert it first, such as by Pillow's convert('RGBA')"
        )
    if picture.mode not in MODES:
        raise InputError(
            f"image: {name} has {picture.mode} pixels, not 8-bit grey or RGB",
            "convert it first, such as by Pillow's convert('RGB')",
        )


def _check_depth(picture: Image.Image) -> None:
    """Raise ValueError for 16-bit colours, which Pillow would cut to 8 bits; call it before loading."""
    raw = [str(tile[3]) for tile in getattr(picture, "tile", [])]
    if any(re.search(r"\b(RGBA?|LA?|I);16", one) for one in raw):
        raise ValueError("more than 8 bits a channel")


def opened(image: Picture) -> Opened:
    """Return any accepted form of an image as floats.

    Args:
        image: (C, H, W) or (B, C, H, W) tensor, float in [0, 1] or uint8; (H, W) or (H, W, C) uint8 array;
            PIL picture, turned as its EXIF data says; path. C is 1, 2 (grey and alpha), 3 or 4 (RGB and
            alpha).

    Raises:
        InputError: anything else, NaN among it.
    """
    tensor = _tensor(image)
    if tensor.ndim != 4 or tensor.shape[1] not in MODES.values() or not tensor.numel():
        raise InputError(
            f"image: shape {tuple(tensor.shape)} is not (B, C, H, W) with C from 1 to 4",
            "give grey or RGB, with or without alpha",
        )
    if tensor.dtype == torch.uint8:
        tensor = tensor.float() / 255
    elif not tensor.is_floating_point():
        raise InputError(
            f"image: {tensor.dtype} pixels have no known range", "give uint8, or floats in [0, 1]"
        )
    tensor = tensor.float()
    if not torch.isfinite(tensor).all() or tensor.min() < 0 or tensor.max() > 1:
        raise InputError(
            f"image: values {float(tensor.min()):.3g}..{float(tensor.max()):.3g} are not all in [0, 1]",
            "divide 8-bit images by 255, and replace NaN",
        )
    channels = tensor.shape[1]
    if channels in (2, 4):
        return Opened(tensor[:, :-1], tensor[:, -1:])
    return Opened(tensor, None)


def _tensor(image: Picture) -> Tensor:
    if isinstance(image, (str, Path)):
        image = read(image)
    if isinstance(image, Image.Image):
        check_mode(image, "the picture")
        image = np.asarray(ImageOps.exif_transpose(image))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise InputError(
                f"image: a {image.dtype} array of shape {image.shape} is no image",
                "give uint8 (H, W) or (H, W, C), or a float tensor (C, H, W) in [0, 1]",
            )
        pixels = image[..., None] if image.ndim == 2 else image
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    if not isinstance(image, Tensor):
        raise InputError(
            f"image: {type(image).__name__} is no image", "give a tensor, array, picture or path"
        )
    return image.detach()[None] if image.ndim == 3 else image.detach()


def like(image: Picture, pixels: Tensor) -> Tensor | npt.NDArray[np.uint8] | Image.Image:
    """Return 8-bit `pixels` (B, C, H, W) in the form that `image` had; a path gives a PIL picture."""
    if isinstance(image, Tensor):
        shaped = pixels[0] if image.ndim == 3 else pixels
        return shaped if image.dtype == torch.uint8 else (shaped.float() / 255).to(image.device, image.dtype)
    array: npt.NDArray[np.uint8] = pixels[0].permute(1, 2, 0).cpu().numpy()
    if isinstance(image, np.ndarray):
        return array.reshape(image.shape)
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    source = read(image) if isinstance(image, (str, Path)) else ImageOps.exif_transpose(image)
    picture.info = dict(source.info)
    return picture
