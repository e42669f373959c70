"""Bringing whatever a suspect answers to the registered contract: 8 bits, and the channels of the query.

Every step is blind to the key and the same on every machine. The size is left alone: decoding resamples it.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from modelguard.errors import SuspectError
from modelguard.suspects.base import Pixels

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
MAX_BYTES = 16 << 20
"""Largest answer that is read; a bundle of evidence takes no larger one."""
MAX_PIXELS = 1 << 22
"""Most pixels of an answer, so that it fits into a bundle even as a PNG of noise."""


def decode(raw: bytes) -> tuple[npt.NDArray[Any], str]:
    """Decode an image file that a stranger sent.

    Args:
        raw: at most 16 MiB of PNG, JPEG or WebP, 8 or 16 bits; of a moving picture the first frame counts.

    Returns:
        uint8 or uint16 (H, W) or (H, W, C), and the media type.

    Raises:
        SuspectError: no such file, damaged, or of more than 2^22 pixels.
    """
    try:
        if len(raw) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        with Image.open(io.BytesIO(raw), formats=tuple(FORMATS)) as picture:
            if picture.width * picture.height > MAX_PIXELS:  # before its pixels are unpacked
                raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
            media_type = FORMATS[str(picture.format)]
            if picture.mode.startswith("I"):
                return np.asarray(picture).astype(np.uint16), media_type
            known = picture if picture.mode in ("L", "LA", "RGB", "RGBA") else picture.convert("RGB")
            return np.array(known), media_type
    except Exception as error:  # Pillow raises many kinds on damaged files
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise SuspectError(
            f"suspect: {len(raw)} bytes beginning {raw[:16]!r} are no PNG, JPEG or WebP file{why}",
            "look at what the suspect sends; it may be an error page",
        ) from error


def to_contract(answer: npt.NDArray[Any], query: Pixels) -> tuple[Pixels, str]:
    """Return an answer as uint8 (H, W, C) with the channels of `query`, and what was changed in words.

    uint16 and floats in [0, 1] are rounded to 8 bits, alpha is dropped, RGB becomes BT.601 luma, grey is
    repeated.

    Args:
        answer: (H, W) or (H, W, C) with C from 1 to 4, of uint8, uint16 or floats.
        query: what was asked.

    Raises:
        SuspectError: another shape or type, values that are not in range, or more than 2^22 pixels.
    """
    pixels, changes = answer[..., None] if answer.ndim == 2 else answer, []
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or not pixels.size:
        raise SuspectError(
            f"suspect: it answered with an array of shape {answer.shape}",
            "answer (H, W), or (H, W, C) with one to four channels",
        )
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise SuspectError(
            f"suspect: it answered with {pixels.shape[1]} x {pixels.shape[0]} pixels",
            f"at most {MAX_PIXELS} are taken: let it answer in the size of the query",
        )
    if pixels.dtype != np.uint8:
        changes.append(f"{pixels.dtype} to uint8")
        pixels = _to_8_bits(pixels)
    if pixels.shape[2] in (2, 4):
        changes.append("alpha dropped")
        pixels = pixels[..., :-1]
    if pixels.shape[2] < query.shape[2]:
        changes.append("grey to RGB")
        pixels = pixels.repeat(3, axis=2)
    elif pixels.shape[2] > query.shape[2]:
        changes.append("RGB to grey")
        pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]
    return np.array(pixels, np.uint8, order="C"), ", ".join(changes)


def _to_8_bits(pixels: npt.NDArray[Any]) -> Pixels:
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise SuspectError(
            f"suspect: it answered with an array of {pixels.dtype}",
            "answer uint8, uint16 or floats in [0, 1]",
        )
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise SuspectError(
            f"suspect: it answered with floats from {pixels.min():.4g} to {pixels.max():.4g}",
            "clip them to [0, 1], or answer uint8",
        )
    rounded: Pixels = np.rint(pixels * 255).astype(np.uint8)
    return rounded
