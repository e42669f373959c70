"""SymmetricBarrier: a barrier for colour whose mark is learnt from mirrored and turned pictures too.

As `barrier`, with other filters behind the model; `symmetric_filters` reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.evidence import Decoder
from modelguard.schemes import symmetric_filters
from modelguard.schemes.barrier import LIMIT, Barrier, Filtered, box, brightness, check_images
from modelguard.schemes.base import Contract

SPREAD = 65.0
"""Of a filter's values in photos."""


@dataclass(frozen=True)
class SymmetricBarrier(Barrier):
    """Mark a model's answers to all photos, so that networks learn the mark even from mirrored copies.

    For models of colour images. The mark is a filter from brightness into differences of colours that looks
    the same mirrored or turned by a quarter. It has fewer bits than `Barrier`; what that says about who can
    take it off holds here too.

    Args:
        leaves: committed leaves of 102 bits, all of them in every answer. A certificate opens one, which is
            public from then on. With two, half of the filters cancel.
        amplitude: strength in 8-bit grey levels, less where there is little structure; no colour of a pixel
            changes by more than six.
    """

    amplitude: float = 6.5

    decoder: ClassVar[Decoder] = symmetric_filters.DECODER

    def public(self, contract: Contract) -> dict[str, int | str]:
        """Return the public parameters for a host of this contract; InputError for grey images or clips."""
        check_images(contract, "SymmetricBarrier")
        return symmetric_filters.public(channels=contract.channels, scale=contract.scale)

    def _behind(self, host: nn.Module, scale: int) -> Coloured:
        return Coloured(host, scale)


class Coloured(Filtered):
    """A host and the sum of a key's symmetric filters behind it; it turns and flips with the picture."""

    bank: ClassVar[ModuleType] = symmetric_filters

    def residual(self, shown: Tensor) -> Tensor:
        """Return what is added: (B, 3, H, W) for (B, 3, H, W) in [0, 1]."""
        tone = shown.mean(1, keepdim=True)
        bright = brightness(tone, symmetric_filters.BRIGHT, symmetric_filters.FARTHEST)
        contrast, middling = box((tone - box(tone, 2)).abs(), 2) * 255, symmetric_filters.CONTRAST
        rough = 2 * (contrast - middling) / (contrast + middling)
        classes = torch.cat([torch.ones_like(bright), bright, rough], 1)
        signs = self.weights.float().view(len(self.directions), symmetric_filters.CLASSES, -1)
        parts = torch.einsum("dck,bkhw->bdchw", signs, self.filtered(tone))
        total = torch.einsum("bdchw,bchw->bdhw", parts, classes)
        total = torch.einsum("bdhw,dc->bchw", total, F.normalize(self.directions.float()))
        total = total / (SPREAD * math.sqrt(signs[0].numel()))
        return (total * self.amplitude.float()).clamp(-LIMIT, LIMIT) / 255
