"""Files of a bundle: bounded reading without links, blobs named by their digest, images as bytes."""

from __future__ import annotations

import hashlib
import io
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelguard._files import atomic_write_bytes
from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError

Array = npt.NDArray[np.uint8]

MAX_BLOB_BYTES = 16 << 20
MAX_PIXELS = 1 << 24
_ASK = "ask for a complete and undamaged bundle"
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes, following no link.

    Raises:
        EvidenceError: missing, a link or other special file, or too large.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise EvidenceError(f"{path.name}: not a regular file", "a bundle holds no links")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise EvidenceError(f"{path.name}: cannot be read ({error.strerror})", _ASK) from None
    if len(data) > limit:
        raise EvidenceError(f"{path.name}: larger than {limit} bytes", "this is no such file")
    return data


def array_digest(array: Array) -> str:
    """Return SHA-256 of an image's shape (three u32) and values; what a transcript calls `request`."""
    height, width, channels = _checked(array).shape
    shape = b"".join(side.to_bytes(4, "big") for side in (height, width, channels))
    return hashlib.sha256(b"modelguard/v1/array\x00" + shape + array.tobytes()).hexdigest()


def encode_png(array: Array) -> bytes:
    """Encode an image (H, W, C), C from 1 to 4, as PNG."""
    array = _checked(array)
    pixels = array[..., 0] if array.shape[2] == 1 else array
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels), _MODES[array.shape[2]]).save(file, "PNG")
    return file.getvalue()


def decode_png(data: bytes) -> Array:
    """Decode what `encode_png` made into uint8 (H, W, C).

    Raises:
        MalformedEvidenceError: not an 8-bit PNG, or of more than 2^24 pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in _MODES.values() or image.width * image.height > MAX_PIXELS:
                raise ValueError("unsupported mode or size")
            pixels = np.asarray(image, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MalformedEvidenceError(f"blob: not an 8-bit PNG ({error})", _ASK) from None
    return pixels.reshape(*pixels.shape[:2], -1)


def _checked(array: Array) -> Array:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in _MODES:
        raise InputError(
            f"image: {array.dtype} {array.shape} is not uint8 (H, W, C)",
            "give 8-bit images of 1 to 4 channels",
        )
    if not 1 <= array.shape[0] * array.shape[1] <= MAX_PIXELS:
        raise InputError(f"image: {array.shape} is empty or above 2^24 pixels", "give a smaller image")
    return array


def put_blob(folder: Path, data: bytes, sync: bool = True) -> str:
    """Store a blob under its digest and return the digest.

    Raises:
        InputError: larger than 16 MiB, which no reader would accept.
    """
    if len(data) > MAX_BLOB_BYTES:
        raise InputError(f"response: {len(data)} bytes, at most {MAX_BLOB_BYTES} fit", "ask smaller images")
    name = hashlib.sha256(data).hexdigest()
    if not (folder / name).exists():
        atomic_write_bytes(folder / name, data, overwrite=True, sync=sync)
    return name


def get_blob(folder: Path, name: str) -> bytes:
    """Read a blob and check its digest.

    Raises:
        EvidenceError: missing, a link, too large, or not what its name says.
    """
    data = read_bounded(folder / name, MAX_BLOB_BYTES)
    if hashlib.sha256(data).hexdigest() != name:
        raise EvidenceError(f"blob {name[:16]}...: its content was changed", _ASK)
    return data
