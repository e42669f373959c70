"""Marking image files, and hiding pictures in them; what is written is read back before."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from modelguard._files import atomic_write_bytes
from modelguard.codecs.dbmark import DBMark, Payload
from modelguard.codecs.pictures import read
from modelguard.codecs.riis import RIIS
from modelguard.errors import InputError

FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),  # else what alpha hides turns black
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
}


def check_target(target: Path, *, force: bool, name: str = "OUT") -> None:
    """Raise InputError if an image cannot be written to `target`, before any work is done for it."""
    if target.suffix.lower() not in FORMATS:
        raise InputError(
            f"{name}: {target.name} has no ending of an image format", f"use one of {', '.join(FORMATS)}"
        )
    if target.exists() and not force:
        raise InputError(f"{name}: {target} exists already", "choose another name, or give --force")


def embed_file(
    codec: DBMark,
    source: Path,
    target: Path,
    payload: Payload,
    *,
    strength: float = 1.0,
    survives: Sequence[nn.Module] = (),
    force: bool = False,
) -> None:
    """Mark the image in `source` and write it to `target`, in the format of its ending.

    The mark is read back from the encoded file. Colour profile and EXIF data go along.

    Args:
        codec: that marks.
        source: 8-bit grey or RGB, with or without alpha.
        target: .png, .jpg (quality 95, full chroma), .webp (lossless), .tif or .bmp.
        payload: see `DBMark.embed`.
        strength: see `DBMark.embed`.
        survives: see `DBMark.embed`.
        force: replace an existing file.

    Raises:
        InputError: the image, the payload or the target cannot be used.
        EmbeddingError: the mark cannot be found in the encoded file.
    """
    check_target(target, force=force)
    marked = codec.embed(read(source), payload, strength, survives)
    data = _encoded(marked, source, target)
    codec.check(codec.extract(_decoded(data)), payload)
    atomic_write_bytes(target, data, overwrite=force)


@dataclass(frozen=True, eq=False)
class Hidden:
    """A container that was written, and what it gives back.

    Attributes:
        container_psnr: of the file to the host, dB.
        secret_psnr: of each revealed secret to what was hidden, dB.
        revealed: the secrets, of the container's size.
        score: see `Revealed`.
    """

    container_psnr: float
    secret_psnr: tuple[float, ...]
    revealed: tuple[Image.Image, ...]
    score: float


def hide_file(
    codec: RIIS, host: Path, secrets: Sequence[Path], target: Path, *, force: bool = False
) -> Hidden:
    """Hide the pictures in `secrets` in that in `host`, write the container and reveal it as a check.

    Args:
        codec: that hides.
        host: 8-bit RGB.
        secrets: 8-bit grey or RGB.
        target: see `embed_file`.
        force: replace an existing file.

    Raises:
        InputError: a picture or the target cannot be used.
    """
    check_target(target, force=force)
    given, pictures = read(host), [read(secret) for secret in secrets]
    data = _encoded(codec.hide(given, pictures), host, target)
    container = _decoded(data)
    found = codec.reveal(container)
    wanted = [one.convert("RGB").resize(given.size, Image.Resampling.BICUBIC) for one in pictures]
    atomic_write_bytes(target, data, overwrite=force)
    revealed = found.secrets[: len(wanted)]
    return Hidden(
        _psnr(container, given),
        tuple(_psnr(one, other) for one, other in zip(revealed, wanted, strict=True)),
        revealed,
        found.score,
    )


def write_picture(picture: Image.Image, target: Path, *, force: bool = False) -> None:
    """Write a picture in the format that the ending of `target` names.

    Raises:
        InputError: the target exists or cannot hold it.
    """
    check_target(target, force=force)
    atomic_write_bytes(target, _encoded(picture, target, target), overwrite=force)


def _encoded(picture: Image.Image, source: Path, target: Path) -> bytes:
    name, options = FORMATS[target.suffix.lower()]
    if name in ("JPEG", "BMP") and picture.mode in ("LA", "RGBA"):
        raise InputError(f"OUT: {name} holds no alpha, which {source} has", "write a .png or .webp")
    buffer = io.BytesIO()
    kept = {key: picture.info[key] for key in ("icc_profile", "exif") if picture.info.get(key)}
    try:
        picture.save(buffer, format=name, **options, **kept)
    except (OSError, ValueError) as error:
        raise InputError(f"OUT: {name} cannot hold {source} ({error})", "write a .png") from error
    return buffer.getvalue()


def _decoded(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as encoded:
        encoded.load()
        return encoded.copy()


def _psnr(one: Image.Image, other: Image.Image) -> float:
    error = np.mean(np.square(np.asarray(one, float) - np.asarray(other, float))) / 255**2
    return float(-10 * np.log10(max(error, 1e-9)))
