"""A suspect that takes clips and returns clips: a video service, a program, another framework."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelguard.errors import InputError, SuspectError
from modelguard.suspects.base import Answer, Pixels, check_query, to_png
from modelguard.suspects.contract import to_contract


class ClipSuspect:
    """Asks `fn` with a clip; in the record, clips are images with one frame below the other.

    A suspect that answers with another number of frames, or with one twice, has dropped some. Each frame is
    then put where the frame asked is that it is most like. A frame that did not come back is filled with the
    one asked, in the contrast of the answers, which scores about nothing. The key has no part in this.

    Args:
        fn: called with uint8 (frames, H, W, C), returns (T, H', W', C') of uint8, uint16 or floats in [0, 1].
        frames: of a clip, as in the key's public parameters.
    """

    def __init__(self, fn: Callable[[Pixels], object], frames: int) -> None:
        if frames < 1:
            raise InputError(f"frames: {frames} make no clip", "use a whole number from 1")
        self.fn, self.frames = fn, frames
        self.kind, self.endpoint = "callable", getattr(fn, "__qualname__", type(fn).__qualname__)

    def ask(self, query: Pixels) -> Answer:
        """Put one clip, (frames*H, W, C), to the callable; see `Suspect`."""
        check_query(query)
        if query.shape[0] % self.frames:
            raise InputError(
                f"query: {query.shape[0]} rows are no {self.frames} frames", "give the frames of the key"
            )
        asked = query.reshape(self.frames, -1, *query.shape[1:])
        try:
            result = self.fn(asked.copy())
        except Exception as error:
            raise SuspectError(
                f"suspect: the callable raised {type(error).__name__}: {error}", "call it once by hand"
            ) from error
        if not isinstance(result, np.ndarray) or result.ndim != 4 or not result.size:
            shape = f"shape {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
            raise SuspectError(
                f"suspect: the callable returned {shape}, no clip",
                "return an array (T, H, W, C) of at least one frame",
            )
        strip, converted = to_contract(result.reshape(-1, *result.shape[2:]), query)
        if len(result) != self.frames or _repeats(result):
            strip, found = _in_place(asked, strip.reshape(len(result), -1, *strip.shape[1:]))
            note = f"{len(result)} frames for {self.frames}, {found} of them placed"
            converted = f"{converted}, {note}" if converted else note
        return Answer(strip, to_png(strip), "image/png", 200, converted=converted)


def _repeats(answer: npt.NDArray[Any]) -> bool:
    return any(np.array_equal(one, after) for one, after in pairwise(answer))


def _in_place(asked: Pixels, answer: Pixels) -> tuple[Pixels, int]:
    """Return a strip with each answer's frame where it belongs, and how many frames there are in it."""
    size = answer.shape[2], answer.shape[1]
    frames = (Image.fromarray(one[..., 0] if one.shape[2] == 1 else one) for one in asked)
    large = np.stack([np.asarray(one.resize(size, Image.Resampling.NEAREST)) for one in frames])
    wanted = large.reshape(len(asked), -1) - 127.5
    given = answer.reshape(len(answer), -1) - 127.5
    likeness = given @ wanted.T / np.maximum(np.linalg.norm(given, axis=1)[:, None], 1)
    likeness /= np.maximum(np.linalg.norm(wanted, axis=1), 1)
    best, place = likeness.argmax(axis=0), likeness.argmax(axis=1)
    came = place[best] == np.arange(len(asked))
    matched = given[best]
    contrast = (matched * wanted)[came].sum() / max(np.square(wanted[came]).sum(), 1)
    filled = np.where(came[:, None], matched, contrast * wanted) + 127.5
    strip = np.rint(filled).clip(0, 255).astype(np.uint8)
    return strip.reshape(-1, *answer.shape[2:]), int(came.sum())
