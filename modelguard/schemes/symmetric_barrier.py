"""SymmetricBarrier: a barrier for colour whose mark is learnt from mirrored and turned pictures too.

As `barrier`, with other filters behind the model; `symmetric_filters` reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.errors import check_above_zero, check_counts
from modelguard.evidence import Decoder, Key
from modelguard.networks import device_of
from modelguard.schemes import symmetric_filters
from modelguard.schemes.barrier import LIMIT, Barred, box, check_images, signed_carriers
from modelguard.schemes.base import Contract
from modelguard.schemes.filter_fits import CUT
from modelguard.schemes.planes import ONE

SPREAD = 65.0
"""Of a filter's values in photos."""


@dataclass(frozen=True)
class SymmetricBarrier:
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

    leaves: int = 1
    amplitude: float = 6.5

    decoder: ClassVar[Decoder] = symmetric_filters.DECODER

    def __post_init__(self) -> None:
        check_counts(leaves=self.leaves)
        check_above_zero(amplitude=self.amplitude)

    def public(self, contract: Contract) -> dict[str, int | str]:
        """Return the public parameters for a host of this contract; InputError for grey images or clips."""
        check_images(contract, "SymmetricBarrier")
        return symmetric_filters.public(channels=contract.channels, scale=contract.scale)

    def attach(self, host: nn.Module, key: Key) -> Coloured:
        """Return `host` behind a barrier of this key, on its device."""
        barred = Coloured(host, int(key.scheme["scale"]))
        barred.weights += torch.from_numpy(signed_carriers(key)).to(barred.weights)
        barred.amplitude.fill_(self.amplitude / math.sqrt(key.leaves))
        return barred.train(host.training)


class Coloured(Barred):
    """A host and the sum of a key's symmetric filters behind it; it turns and flips with the picture."""

    weights: Tensor
    filters: Tensor
    directions: Tensor

    def __init__(self, host: nn.Module, scale: int) -> None:
        super().__init__(host, scale)
        device = device_of(host)
        self.register_buffer(
            "weights", torch.zeros(symmetric_filters.CELLS, dtype=torch.int16, device=device)
        )
        filters = torch.from_numpy(symmetric_filters.filters())[:, None].to(device)
        self.register_buffer("filters", filters, persistent=False)
        directions = torch.tensor(symmetric_filters.DIRECTIONS, device=device)
        self.register_buffer("directions", directions, persistent=False)

    def residual(self, shown: Tensor) -> Tensor:
        """Return what is added: (B, 3, H, W) for (B, 3, H, W) in [0, 1]."""
        tone = 255 * shown.mean(1, keepdim=True)
        filters = self.filters.float() * (ONE / 2**symmetric_filters.SHIFT)
        padded = F.pad(tone, [symmetric_filters.RADIUS] * 4, mode="replicate")
        found = F.conv2d(padded, filters).clamp(-CUT, CUT)
        far = symmetric_filters.FARTHEST
        bright = (2 * (box(box(tone, 2), 2) - symmetric_filters.BRIGHT)).clamp(-far, far) / 128
        contrast = box((tone - box(tone, 2)).abs(), 2)
        rough = 2 * (contrast - symmetric_filters.CONTRAST) / (contrast + symmetric_filters.CONTRAST)
        classes = torch.cat([torch.ones_like(bright), bright, rough], 1)
        signs = self.weights.float().view(len(self.directions), symmetric_filters.CLASSES, -1)
        parts = torch.einsum("dck,bkhw->bdchw", signs, found)
        total = torch.einsum("bdchw,bchw->bdhw", parts, classes)
        total = total / (SPREAD * math.sqrt(signs[0].numel()))
        total = torch.einsum("bdhw,dc->bchw", total, F.normalize(self.directions.float()))
        return (total * self.amplitude.float()).clamp(-LIMIT, LIMIT) / 255
