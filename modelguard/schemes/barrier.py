"""Barrier: a mark in the answers to any photo, put there by a small module behind the host.

No training and no triggers: the module adds keyed waves of the tone, colour and texture of each answer, and
the owner's secret bits choose their signs. `tone_carriers` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.errors import InputError
from modelguard.evidence import Decoder, Key
from modelguard.networks import device_of
from modelguard.schemes import tone_carriers
from modelguard.schemes.base import Contract

HOST = "host."
"""What the names of the host's tensors begin with in a barred model."""


@dataclass(frozen=True)
class Barrier:
    """Mark a model's answers to all photos, for whoever sells its answers as his own.

    The marked model is the host and a module behind it that holds the carriers and signs of this key: whoever
    has its file has the mark, and can take it off. So keep the model in a service of yours. A network that a
    thief trains on its answers is not known to carry this mark.

    Args:
        leaves: committed leaves of 64 bits, all of them in every answer.
        per_session: leaves that a session reads, and a certificate uses up.
        amplitude: strength in 8-bit grey levels; the change of a pixel is at most four times this.
    """

    leaves: int = 4
    per_session: int = 4
    amplitude: float = 2.3

    decoder: ClassVar[Decoder] = tone_carriers.DECODER

    def __post_init__(self) -> None:
        if not 1 <= self.per_session <= min(self.leaves, 16):
            raise InputError(
                f"per_session: {self.per_session} of {self.leaves} leaves",
                "read 1 to 16 leaves a session, no more than there are",
            )
        if not 0 < self.amplitude < math.inf:
            raise InputError(
                f"amplitude: {self.amplitude} is out of range", "use a number of grey levels above 0"
            )

    def public(self, contract: Contract) -> dict[str, int | str]:
        """Return the public parameters for a host of this contract; InputError for one of clips."""
        if contract.frames > 1:
            raise InputError("scheme: Barrier marks images, the model makes clips", "use TriggerKey()")
        return tone_carriers.public(
            channels=contract.channels, scale=contract.scale, per_session=self.per_session
        )

    def attach(self, host: nn.Module, key: Key) -> Barred:
        """Return `host` behind a barrier of this key, on its device."""
        barred = shell(host, key.scheme, key.leaves)
        for index in range(key.leaves):
            secret_k, secret_b = key.leaf(index)
            numbers, phases = tone_carriers.carriers(key.scheme, secret_k, key.salt)
            signs = tone_carriers.bits(key.scheme, secret_b, key.salt)
            for buffer, values in ((barred.numbers, numbers), (barred.phases, phases), (barred.signs, signs)):
                buffer[index] = torch.from_numpy(values).to(buffer)
        barred.amplitude.fill_(self.amplitude)
        return barred.train(host.training)


class Barred(nn.Module):
    """A host and the barrier behind it: (B, C, H, W) to (B, C, sH, sW) in [0, 1], of any size.

    The barrier knows no position, turns and flips with the picture, and works in float32 whatever the
    precision of the host: its numbers are integers, which no change of precision touches.

    Args:
        host: the protected model.
        channels: of its answers, 1 or 3.
        scale: s.
        leaves: of the key.
    """

    numbers: Tensor
    phases: Tensor
    signs: Tensor
    amplitude: Tensor

    def __init__(self, host: nn.Module, channels: int, scale: int, leaves: int) -> None:
        super().__init__()
        self.host, self.scale = host, scale
        device, cells = device_of(host), (leaves, tone_carriers.CELLS)
        self.register_buffer("numbers", torch.zeros((*cells, channels + 2), dtype=torch.int8, device=device))
        self.register_buffer("phases", torch.zeros(cells, dtype=torch.uint8, device=device))
        self.register_buffer("signs", torch.zeros(cells, dtype=torch.int8, device=device))
        self.register_buffer("amplitude", torch.zeros((), device=device))

    def forward(self, image: Tensor) -> Tensor:
        """Return the marked answer."""
        answer = cast(Tensor, self.host(image))
        shown = answer.float().clamp(0.0, 1.0)
        with torch.autocast(shown.device.type, enabled=False):  # bf16 waves would be noise
            change = self.residual(F.avg_pool2d(shown, self.scale) if self.scale > 1 else shown)
        if self.scale > 1:
            change = F.interpolate(change, scale_factor=float(self.scale), mode="bilinear")
        return (shown + change).clamp(0.0, 1.0).to(answer.dtype)

    def residual(self, shown: Tensor) -> Tensor:
        """Return what is added to every channel: (B, C, H, W) in [0, 1] to (B, 1, H, W)."""
        tone = shown.mean(1, keepdim=True)
        contrast = _mean(_mean((_mean(tone, 1) - _mean(tone, 4)).abs(), 2), 2) * 255
        fine = tone_carriers.EDGE * (_mean(_mean(tone, 2), 2) - _mean(_mean(tone, 5), 5)) * 255
        texture = 256 * contrast / (contrast + tone_carriers.CONTRAST)
        coordinates = torch.cat([_mean(_mean(shown, 2), 1) * 255, fine, texture], 1)
        total = torch.zeros_like(tone)
        for numbers, phases, signs in zip(self.numbers, self.phases, self.signs, strict=True):
            turns = numbers.float()[:, :, None, None] * (math.tau / 4096)
            waves = torch.sin(F.conv2d(coordinates, turns, phases.float() * (math.tau / 256)))
            total = total + F.conv2d(waves, signs.float()[None, :, None, None])
        total = total * math.sqrt(2 / self.signs.numel())
        gain = ((contrast + 3) / 6).clamp(0.5, 1.0)  # less where it would be seen
        change = _detail(gain * _detail(total)).clamp(-4.0, 4.0)
        return change * (self.amplitude.float() / 255)


def shell(host: nn.Module, scheme: Mapping[str, int | str], leaves: int) -> Barred:
    """Return `host` behind a barrier whose numbers are still to be loaded.

    Args:
        host: built as the protected one was.
        scheme: public parameters.
        leaves: of the key.
    """
    return Barred(host, int(scheme["channels"]), int(scheme["scale"]), leaves)


def _mean(plane: Tensor, radius: int) -> Tensor:
    """Return the mean over (2 radius + 1)^2 pixels, the border repeated."""
    return F.avg_pool2d(F.pad(plane, [radius] * 4, mode="replicate"), 2 * radius + 1, 1)


def _detail(plane: Tensor) -> Tensor:
    return plane - _mean(_mean(plane, 3), 3)
