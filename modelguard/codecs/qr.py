"""QR codes, which make secrets that a program reads: `pip install 'modelguard-sdk[qr]'`."""

from __future__ import annotations

import numpy as np
from PIL import Image

from modelguard.codecs.pictures import Picture, opened
from modelguard.datasets import to_uint8
from modelguard.errors import InputError
from modelguard.networks import bicubic

QUIET = 4  # modules of white around, as ISO/IEC 18004 wants
LEAST = 2  # px of a module


def qr_code(text: str, side: int = 512) -> Image.Image:
    """Return a QR code with the most error correction (H: 30 %), grey, in the middle of a white square.

    Args:
        text: a few words; the less, the larger the modules.
        side: of the square, px.

    Raises:
        InputError: segno is not installed, or the text is too long.
    """
    try:
        import segno
    except ImportError as error:
        raise InputError("qr: segno is not installed", "pip install 'modelguard-sdk[qr]'") from error
    try:
        dark = np.array(segno.make_qr(text, error="h").matrix, bool)
    except ValueError as error:
        raise InputError(f"text: {len(text)} characters ({error})", "shorten it") from error
    modules = len(dark) + 2 * QUIET
    scale = side // modules
    if scale < LEAST:
        raise InputError(
            f"side: {side} px are too few for {modules} modules",
            f"use {LEAST * modules} px or more, or shorten the text",
        )
    picture = Image.new("L", (side, side), 255)
    code = Image.fromarray(~np.kron(dark, np.ones((scale, scale), bool))).convert("L")
    picture.paste(code, ((side - code.width) // 2, (side - code.height) // 2))
    return picture


def read_qr(picture: Picture) -> str | None:
    """Return the text of the QR code in a picture, such as a revealed secret; None if none can be read.

    Raises:
        InputError: zxing-cpp is not installed, or the picture cannot be used.
    """
    try:
        import zxingcpp
    except ImportError as error:
        raise InputError("qr: zxing-cpp is not installed", "pip install 'modelguard-sdk[qr]'") from error
    grey = opened(picture).colour[:1].mean(1, keepdim=True).cpu()
    kind = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
    for part in (1, 2, 4):  # in smaller pictures the noise of what was revealed is averaged
        size = max(1, grey.shape[2] // part), max(1, grey.shape[3] // part)
        if found := zxingcpp.read_barcodes(to_uint8(bicubic(grey, size))[0, 0].numpy(), kind):
            return str(found[0].text)
    return None
