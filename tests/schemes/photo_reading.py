"""Photos and secrets for the tests of readers."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelguard import photos

SALT = b"salt"
SECRETS = [bytes([n]) * 32 for n in range(4)]


def photo(number: int, channels: int, side: int = 160) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a square of a photo that ships."""
    image = photos.load(channels).images[number].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(image[40 : 40 + side, 40 : 40 + side])
