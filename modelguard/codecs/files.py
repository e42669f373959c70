"""Marking image files: what is written is read back before it replaces nothing."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from modelguard._files import atomic_write_bytes
from modelguard.codecs.dbmark import DBMark, Payload
from modelguard.codecs.pictures import read
from modelguard.errors import InputError

FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
}


def check_target(target: Path, *, force: bool) -> None:
    """Raise InputError if an image cannot be written to `target`, before any work is done for it."""
    if target.suffix.lower() not in FORMATS:
        raise InputError(
            f"OUT: {target.name} has no ending of an image format", f"use one of {', '.join(FORMATS)}"
        )
    if target.exists() and not force:
        raise InputError(f"OUT: {target} exists already", "choose another name, or give --force")


def embed_file(
    codec: DBMark, source: Path, target: Path, payload: Payload, *, strength: float = 1.0, force: bool = False
) -> None:
    """Mark the image in `source` and write it to `target`, in the format of its ending.

    The mark is read back from the encoded file. Colour profile and EXIF data go along.

    Args:
        codec: that marks.
        source: 8-bit grey or RGB, with or without alpha.
        target: .png, .jpg (quality 95, full chroma), .webp (lossless), .tif or .bmp.
        payload: see `DBMark.embed`.
        strength: see `DBMark.embed`.
        force: replace an existing file.

    Raises:
        InputError: the image, the payload or the target cannot be used.
        EmbeddingError: the mark cannot be found in the encoded file.
    """
    check_target(target, force=force)
    name, options = FORMATS[target.suffix.lower()]
    picture = read(source)
    marked = codec.embed(picture, payload, strength)
    if name in ("JPEG", "BMP") and marked.mode in ("LA", "RGBA"):
        raise InputError(f"OUT: {name} holds no alpha, which {source} has", "write a .png or .webp")
    buffer = io.BytesIO()
    kept = {key: picture.info[key] for key in ("icc_profile", "exif") if picture.info.get(key)}
    try:
        marked.save(buffer, format=name, **options, **kept)
    except (OSError, ValueError) as error:
        raise InputError(f"OUT: {name} cannot hold {source} ({error})", "write a .png") from error
    with Image.open(buffer) as encoded:
        encoded.load()
        codec.check(
            codec.extract(encoded.copy()), codec.payload(payload), coded=isinstance(payload, (str, int))
        )
    atomic_write_bytes(target, buffer.getvalue(), overwrite=force)
