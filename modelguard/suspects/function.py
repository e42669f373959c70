"""A suspect that is any Python callable: a wrapper around an API, a subprocess, another framework."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from modelguard.errors import SuspectError
from modelguard.suspects.base import Answer, Pixels, check_query, to_png
from modelguard.suspects.contract import decode, to_contract


class CallableSuspect:
    """Asks `fn` with a uint8 array (H, W, C).

    Args:
        fn: returns an array (H, W, C) or (H, W) of uint8, uint16 or floats in [0, 1], a PIL image, or the
            bytes of a PNG, JPEG or WebP file; of any size. Channels other than the query's are converted.
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
            raw = result
            result, media_type = decode(raw)
        if isinstance(result, Image.Image):
            result = _from_picture(result)
        if not isinstance(result, np.ndarray):
            raise SuspectError(
                f"suspect: the callable returned a {type(result).__name__}",
                "return a uint8 array, a PIL image or the bytes of a PNG, JPEG or WebP file",
            )
        pixels, converted = to_contract(result, query)
        return Answer(pixels, raw or to_png(pixels), media_type, 200, converted=converted)


def _from_picture(picture: Image.Image) -> Pixels:
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        raise SuspectError(f"suspect: it answered with {picture.mode} pixels", "ask for 8-bit grey or RGB")
    return np.array(picture)
