"""Barrier: a mark in the answers to any photo, put there by a small module behind the host.

No training and no triggers: the module adds a faint keyed filter of each answer, whose signs are the owner's
secret bits. `odd_filters` reads them. A network that a thief trains on such answers learns it too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.errors import InputError, check_above_zero, check_counts
from modelguard.evidence import Decoder, Key
from modelguard.networks import device_of
from modelguard.schemes import odd_filters, photo_marks
from modelguard.schemes.base import Contract
from modelguard.schemes.filter_fits import CUT
from modelguard.schemes.planes import ONE, Integers

HOST = "host."
"""What the names of the host's tensors begin with in a barred model."""
SPREAD = 60.0
"""Of a filter's values in photos."""
COLOURED = 0.7
"""Strength of each of three directions of colour, against grey."""
LIMIT = 6.0
"""Grey levels by which a pixel changes at most."""


@dataclass(frozen=True)
class Barrier:
    """Mark a model's answers to all photos, so that networks trained on them learn the mark too.

    The marked model is the host and a module behind it that holds the sum of the key's filters. Whoever has
    its file can take the mark off, and so can who asks for a few photos and fits the signs of the filters,
    which are public: he can also put it elsewhere. Keep the model in a service of yours; for a model that is
    given away see `SelfWatermark` and `TriggerKey`.

    Args:
        leaves: committed leaves of 192 bits, all of them in every answer. A certificate opens one, which is
            public from then on. With two, half of the filters cancel and some 75 % of a leaf's bits agree.
        amplitude: strength in 8-bit grey levels, less where there is little structure; no pixel changes by
            more than six.
    """

    leaves: int = 1
    amplitude: float = 7.0

    decoder: ClassVar[Decoder] = odd_filters.DECODER

    def __post_init__(self) -> None:
        check_counts(leaves=self.leaves)
        check_above_zero(amplitude=self.amplitude)

    def public(self, contract: Contract) -> dict[str, int | str]:
        """Return the public parameters for a host of this contract; InputError for a `FilmStrip`."""
        check_images(contract, "Barrier")
        return odd_filters.public(channels=contract.channels, scale=contract.scale)

    def attach(self, host: nn.Module, key: Key) -> Filtered:
        """Return `host` behind a barrier of this key, on its device."""
        barred = self._behind(host, int(key.scheme["scale"]))
        barred.weights += torch.from_numpy(signed_carriers(key, barred.bank)).to(barred.weights)
        barred.amplitude.fill_(self.amplitude / math.sqrt(key.leaves))
        return barred.train(host.training)

    def _behind(self, host: nn.Module, scale: int) -> Filtered:
        return Filtered(host, scale)


def signed_carriers(key: Key, bank: ModuleType = odd_filters) -> Integers:
    """Return the weight of each feature: the sum of all leaves' carriers, each with its secret sign.

    Args:
        key: of the barrier.
        bank: reader of its filters.
    """
    total = np.zeros(bank.CELLS, np.int64)
    for index in range(key.leaves):
        secret_k, secret_b = key.leaf(index)
        total += bank.bits(key.scheme, secret_b, key.salt) * bank.carriers(key.scheme, secret_k, key.salt)
    return total


class Barred(nn.Module):
    """A host and a barrier behind it: (B, C, H, W) to (B, C, sH, sW) in [0, 1], of any size.

    Of a host of clips, (B, T, C, H, W) to (B, T, C, sH, sW), it marks each frame by itself.

    The barrier knows no position and works in float32 whatever the precision of the host: its numbers are
    integers, which no change of precision touches.

    Args:
        host: the protected model.
        scale: s.
    """

    amplitude: Tensor

    def __init__(self, host: nn.Module, scale: int) -> None:
        super().__init__()
        self.host, self.scale = host, scale
        self.register_buffer("amplitude", torch.zeros((), device=device_of(host)))

    def forward(self, image: Tensor) -> Tensor:
        """Return the marked answer."""
        answer = cast(Tensor, self.host(image))
        if answer.ndim == 5:
            return self.mark(answer.flatten(0, 1)).reshape(answer.shape)
        return self.mark(answer)

    def mark(self, answer: Tensor) -> Tensor:
        """Return images (B, C, sH, sW), such as frames of a stream, with the mark in them."""
        shown = answer.float().clamp(0.0, 1.0)
        with torch.autocast(shown.device.type, enabled=False):  # in bf16 the mark would be noise
            change = self.residual(F.avg_pool2d(shown, self.scale) if self.scale > 1 else shown)
        if self.scale > 1:
            change = F.interpolate(change, scale_factor=float(self.scale), mode="bilinear")
        return (shown + change).clamp(0.0, 1.0).to(answer.dtype)

    def residual(self, shown: Tensor) -> Tensor:
        """Return what is added: (B, C, H, W) in [0, 1] to the same, or (B, 1, H, W) for every channel."""
        raise NotImplementedError


class Filtered(Barred):
    """A host and the sum of a key's odd filters behind it; see `odd_filters`."""

    bank: ClassVar[ModuleType] = odd_filters
    weights: Tensor
    filters: Tensor
    directions: Tensor

    def __init__(self, host: nn.Module, scale: int) -> None:
        super().__init__(host, scale)
        device = device_of(host)
        self.register_buffer("weights", torch.zeros(self.bank.CELLS, dtype=torch.int16, device=device))
        filters = torch.from_numpy(self.bank.filters())[:, None].to(device)
        self.register_buffer("filters", filters, persistent=False)
        directions = torch.tensor(self.bank.COLOURS, device=device)
        self.register_buffer("directions", directions, persistent=False)

    def filtered(self, tone: Tensor) -> Tensor:
        """Return what each filter makes of brightness (B, 1, H, W) in [0, 1], cut: (B, filters, H, W)."""
        filters = self.filters.float() * (255 * ONE / 2**self.bank.SHIFT)
        return F.conv2d(F.pad(tone, [self.bank.RADIUS] * 4, mode="replicate"), filters).clamp(-CUT, CUT)

    def residual(self, shown: Tensor) -> Tensor:
        """Return what is added: (B, C, H, W) for (B, C, H, W) in [0, 1]."""
        tone = shown.mean(1, keepdim=True)
        parts = F.conv2d(self.filtered(tone), self.weights.float().view(odd_filters.CLASSES, -1, 1, 1))
        if shown.shape[1] == 1:
            bright = brightness(tone, odd_filters.BRIGHT, odd_filters.FARTHEST)
            classes = torch.cat([torch.ones_like(bright), bright, bright**2 - odd_filters.EXTREME / 128], 1)
            total = (parts * classes).sum(1, keepdim=True) / math.sqrt(odd_filters.CLASSES)
        else:  # each part in a direction of its own
            directions = F.normalize(self.directions.float())
            total = COLOURED * torch.einsum("bdhw,dc->bchw", parts, directions)
        total = total / (SPREAD * math.sqrt(len(odd_filters.FREQUENCIES)))
        return (total * self.amplitude.float()).clamp(-LIMIT, LIMIT) / 255


def brightness(tone: Tensor, middle: int, farthest: int) -> Tensor:
    """Return how bright it is around each pixel, 0 for `middle` and cut at `farthest` / 128."""
    return (2 * (box(box(tone, 2), 2) * 255 - middle)).clamp(-farthest, farthest) / 128


def box(plane: Tensor, radius: int) -> Tensor:
    """Return the mean over (2 radius + 1)^2 pixels, the border repeated."""
    return F.avg_pool2d(F.pad(plane, [radius] * 4, mode="replicate"), 2 * radius + 1, 1)


def check_images(contract: Contract, name: str) -> None:
    """Raise InputError for a contract the scheme of this name is not for: of clips, or enlarging much."""
    if contract.scale > photo_marks.LARGEST:
        raise InputError(
            f"model: it enlarges {contract.scale} times, {name} takes up to {photo_marks.LARGEST}",
            "use TriggerKey()",
        )
    if contract.frames > 1:
        raise InputError(
            f"scheme: {name} is read from photos, the model answers with clips",
            "wrap it as Still(net, frames) for Barrier(), or use TriggerKey()",
        )
