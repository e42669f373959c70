"""What every suspect is: something that is asked with an image and answers with one, or refuses."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelguard.errors import InputError

Pixels = npt.NDArray[np.uint8]
"""An 8-bit image (H, W, C), C = 1 (grey) or 3 (RGB)."""

NO_RESPONSE = 0
"""Status of a question to which no response came: a time-out, a reset, no connection."""
_PASSING_4XX = (408, 425, 429)


@dataclass(frozen=True, eq=False)
class Answer:
    """What came back for one query.

    Args:
        image: the answer in 8 bits and the channels of the query, of whatever size it came in; None for a
            refusal.
        raw: the bytes as they came, or the PNG made of a local model's answer.
        media_type: of `raw`.
        status: HTTP status; 200 for an answer of a local model, `NO_RESPONSE` if there was none.
        reason: why it is a refusal, for people.
        retry_after: seconds that the suspect asked to wait before the next question.
        converted: what was changed to bring it to 8 bits and the query's channels, "" if nothing.
    """

    image: Pixels | None
    raw: bytes = field(repr=False)
    media_type: str
    status: int
    reason: str = ""
    retry_after: float = 0.0
    converted: str = ""


@runtime_checkable
class Suspect(Protocol):
    """Anything that answers an image with an image."""

    @property
    def kind(self) -> str:
        """How it is reached, for the record: "module", "callable", "http-api", "folder", ..."""
        ...

    @property
    def endpoint(self) -> str:
        """Where it is, for the record: the class or function of a local one, the address of a service."""
        ...

    def ask(self, query: Pixels) -> Answer:
        """Put one query (H, W, C) to the suspect, once.

        Raises:
            InputError: `query` is not an 8-bit grey or RGB image.
            SuspectError: asking again cannot help, as when a local model fails.
        """
        ...


def may_pass(status: int) -> bool:
    """Return whether a refusal of this status may pass if one asks again; most of 4xx do not."""
    return not 400 <= status < 500 or status in _PASSING_4XX


def check_query(query: Pixels) -> None:
    """Raise InputError unless `query` is a uint8 image (H, W, C) with C = 1 or 3."""
    if (problem := _problem(query)) is not None:
        raise InputError(f"query: {problem}", "give a uint8 array (H, W, 1) or (H, W, 3)")


def _problem(image: object) -> str | None:
    if not isinstance(image, np.ndarray):
        return f"a {type(image).__name__}"
    if image.dtype != np.uint8:
        return f"an array of {image.dtype}, not uint8"
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        return f"an array of shape {image.shape}, not (H, W, 1) or (H, W, 3)"
    return None


def to_png(image: Pixels) -> bytes:
    """Return (H, W, C) as the bytes of a PNG."""
    return encode(image, "PNG")


def encode(image: Pixels, form: str) -> bytes:
    """Return (H, W, C) as the bytes of an image file; `form` is "PNG", "JPEG" or "WEBP", without its loss."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture.save(buffer, format=form, quality=100 if form == "WEBP" else 95, lossless=True)
    return buffer.getvalue()
