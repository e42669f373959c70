"""What every suspect is: something that is asked with an image and answers with one, or refuses."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelguard.errors import InputError, SuspectError

Pixels = npt.NDArray[np.uint8]
"""An 8-bit image (H, W, C), C = 1 (grey) or 3 (RGB)."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What came back for one query.

    Args:
        image: the answer decoded, of whatever size it came in; None for a refusal.
        raw: the bytes as they came, or the PNG made of a local model's answer.
        media_type: of `raw`.
        status: HTTP status; 200 for an answer of a local model.
    """

    image: Pixels | None
    raw: bytes = field(repr=False)
    media_type: str
    status: int


@runtime_checkable
class Suspect(Protocol):
    """Anything that answers an image with an image."""

    @property
    def kind(self) -> str:
        """How it is reached, for the record: "module", "callable", ..."""
        ...

    @property
    def endpoint(self) -> str:
        """Where it is, for the record: the class or function of a local one."""
        ...

    def ask(self, query: Pixels) -> Answer:
        """Put one query (H, W, C) to the suspect.

        Raises:
            InputError: `query` is not an 8-bit grey or RGB image.
            SuspectError: it could not be asked, or what came back is not such an image.
        """
        ...


def check_query(query: Pixels) -> None:
    """Raise InputError unless `query` is a uint8 image (H, W, C) with C = 1 or 3."""
    if (problem := _problem(query)) is not None:
        raise InputError(f"query: {problem}", "give a uint8 array (H, W, 1) or (H, W, 3)")


def check_answer(answer: Pixels, query: Pixels) -> None:
    """Raise SuspectError unless `answer` is an image of as many channels as `query`; its size is its own."""
    problem = _problem(answer)
    if problem is None and answer.shape[2] != query.shape[2]:
        problem = f"{answer.shape[2]} channels for a query of {query.shape[2]}"
    if problem is not None:
        raise SuspectError(f"suspect: it answered with {problem}", "ask for an 8-bit image like the query")


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
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()
