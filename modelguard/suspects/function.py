"""A suspect that is any Python callable: a wrapper around an API, a subprocess, another framework."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from modelguard.errors import SuspectError
from modelguard.suspects.base import Answer, Pixels, check_answer, check_query, to_png


class CallableSuspect:
    """Asks `fn` with a uint8 array (H, W, C).

    Args:
        fn: returns a uint8 array (H, W, C) or (H, W), a PIL image of mode L or RGB, or the bytes of a PNG or
            JPEG file; of any size.
    """

    def __init__(self, fn: Callable[[Pixels], object]) -> None:
        self.fn = fn
        self.kind, self.endpoint = "callable", getattr(fn, "__qualname__", type(fn).__qualname__)

    def ask(self, query: Pixels) -> Answer:
        """Put one query (H, W, C) to the callable; see `Suspect`."""
        check_query(query)
        try:
            result = self.fn(query.copy())
        except Exception as error:
            raise SuspectError(
                f"suspect: the callable raised {type(error).__name__}: {error}", "call it once by hand"
            ) from error
        raw, media_type = b"", "image/png"
        if isinstance(result, bytes):
            raw, media_type = result, "image/png" if result.startswith(b"\x89PNG") else "image/jpeg"
            result = _decode(result)
        if isinstance(result, Image.Image):
            result = _from_picture(result)
        if not isinstance(result, np.ndarray):
            raise SuspectError(
                f"suspect: the callable returned a {type(result).__name__}",
                "return a uint8 array, a PIL image or the bytes of a PNG or JPEG file",
            )
        pixels = np.array(result[..., None] if result.ndim == 2 else result, order="C")
        check_answer(pixels, query)
        return Answer(pixels, raw or to_png(pixels), media_type, 200)


def _decode(raw: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(raw), formats=("PNG", "JPEG"))
        picture.load()
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise SuspectError(
            f"suspect: {len(raw)} bytes beginning {raw[:16]!r} are no PNG or JPEG file ({error})",
            "look at what the suspect sends; it may be an error page",
        ) from error
    return picture


def _from_picture(picture: Image.Image) -> Pixels:
    if picture.mode not in ("L", "RGB"):
        raise SuspectError(f"suspect: it answered with {picture.mode} pixels", "ask for 8-bit grey or RGB")
    return np.array(picture)
