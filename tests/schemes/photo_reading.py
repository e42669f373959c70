"""Photos, secrets and a host for the tests of readers and barriers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelguard import photos
from modelguard.evidence import Key
from modelguard.schemes import PhotoReader, read
from modelguard.statistics import SignTest, sign_test

SALT = b"salt"
SECRETS = [bytes([n]) * 32 for n in range(4)]


def photo(number: int, channels: int, side: int = 160) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a square of a photo that ships."""
    image = photos.load(channels).images[number].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(image[40 : 40 + side, 40 : 40 + side])


class Soften(nn.Module):
    """An algorithm without parameters: a 3 x 3 mean, mixed with the image."""

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W)."""
        padded = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
        return torch.lerp(image, nn.functional.avg_pool2d(padded, 3, 1), 0.3)


def agreement(key: Key, query: np.ndarray[Any, Any], answer: np.ndarray[Any, Any]) -> SignTest:
    """Return the test of one answer."""
    pairs, reader = [key.leaf(index) for index in range(int(key.scheme["perSession"]))], read(key.scheme)
    assert isinstance(reader, PhotoReader)
    scores = reader.decode_photo(key.scheme, [x for x, _ in pairs], key.salt, query, answer)
    signs = [reader.bits(key.scheme, x, key.salt) for _, x in pairs]
    return sign_test(np.concatenate(signs), scores)
