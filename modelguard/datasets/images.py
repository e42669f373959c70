"""Reading and writing images as float tensors in [0, 1]."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


def to_uint8(image: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits (never truncate)."""
    return image.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)


def read_image(path: str | Path, channels: int = 3) -> Tensor:
    """Return the image at `path` as a float tensor (channels, H, W) in [0, 1].

    Args:
        path: any file Pillow reads, 8 bits a channel.
        channels: 1 for BT.601 luma (full range), 3 for RGB.

    Raises:
        InputError: no such file, not an image, or more than 8 bits, which Pillow would clip to white.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise ValueError(f"{picture.mode} pixels are more than 8 bits a channel")
            array = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except FileNotFoundError as error:
        raise InputError(f"path: there is no image at {path}", "check the path") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"path: {path} is not a readable image ({error})", "replace or remove it") from error
    tensor = torch.from_numpy(array.copy())
    return (tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)).float() / 255


def write_image(path: str | Path, image: Tensor, *, overwrite: bool = False) -> Path:
    """Write a (C, H, W) float image in [0, 1] as PNG, rounded to 8 bits; C is 1 or 3.

    Raises:
        InputError: it is no such image, or the file exists and `overwrite` is False.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.is_floating_point():
        raise InputError(
            f"image: shape {tuple(image.shape)} of {image.dtype} is no float image (1 or 3, H, W)",
            "take one image of a batch with batch[0]; divide 8-bit values by 255",
        )
    array = to_uint8(image).permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(buffer, format="PNG")
    return atomic_write_bytes(path, buffer.getvalue(), overwrite=overwrite)


@dataclass(frozen=True)
class ImageSet:
    """Images held in memory as uint8 tensors (C, H, W), with the files that could not be read.

    Indexing returns a float tensor in [0, 1].
    """

    images: tuple[Tensor, ...]
    skipped: tuple[str, ...] = field(default=())

    @classmethod
    def from_folder(cls, folder: str | Path, channels: int = 1, *, smallest: int = 1) -> ImageSet:
        """Read every image below `folder`; unreadable or too small ones are skipped and reported.

        Args:
            folder: searched recursively for the usual image endings.
            channels: 1 for luma, 3 for RGB.
            smallest: images with a side shorter than this are skipped.

        Raises:
            InputError: no such folder, or no usable image in it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"data: there is no folder {folder}", "give a folder of images")
        images, skipped = [], []
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
            try:
                image = read_image(path, channels)
            except InputError:
                skipped.append(f"{path.name}: unreadable or not 8-bit")
                continue
            if min(image.shape[1:]) < smallest:
                skipped.append(f"{path.name}: smaller than {smallest} px")
                continue
            images.append(to_uint8(image))
        if not images:
            raise InputError(
                f"data: no usable image among {len(skipped)} image files in {folder}",
                f"give a folder with images of at least {smallest} px",
            )
        if skipped:
            warnings.warn(f"skipped {len(skipped)} files in {folder}: {'; '.join(skipped[:5])}", stacklevel=2)
        return cls(tuple(images), tuple(skipped))

    @classmethod
    def of(cls, images: list[Tensor]) -> ImageSet:
        """Hold float images in [0, 1]; raises InputError for none, or another range (0..255, say)."""
        if not images:
            raise InputError("images: the list is empty", "give at least one image")
        for number, image in enumerate(images):
            if image.ndim != 3 or not torch.isfinite(image).all() or image.min() < 0 or image.max() > 1:
                raise InputError(
                    f"images[{number}]: shape {tuple(image.shape)}, "
                    f"values {image.min():.3g}..{image.max():.3g}",
                    "give (C, H, W) float tensors in [0, 1]; divide 8-bit images by 255",
                )
        return cls(tuple(to_uint8(image) for image in images))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        """Return image `index` as floats in [0, 1]."""
        return self.images[index].float() / 255

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the images as floats in [0, 1]."""
        return (self[index] for index in range(len(self)))
