"""Waves as a barrier: a mark that turns and flips with the picture, but is not made to be learnt.

The module adds keyed waves of the tone, colour and texture of each answer, and the owner's secret bits choose
their signs. `tone_carriers` reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.errors import InputError, check_above_zero
from modelguard.evidence import Decoder, Key
from modelguard.networks import device_of
from modelguard.schemes import tone_carriers
from modelguard.schemes.barrier import Barred, box, check_images
from modelguard.schemes.base import Contract


@dataclass(frozen=True)
class WaveBarrier:
    """Mark a model's answers to all photos, for whoever sells its answers as his own.

    Unlike the mark of `Barrier` this one outlives turned and mirrored photos. It is not known
    that a network trained on the answers carries it. As there, keep the marked model in a service of yours.

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
        check_above_zero(amplitude=self.amplitude)

    def public(self, contract: Contract) -> dict[str, int | str]:
        """Return the public parameters for a host of this contract; InputError for a `FilmStrip`."""
        check_images(contract, "WaveBarrier")
        return tone_carriers.public(
            channels=contract.channels, scale=contract.scale, per_session=self.per_session
        )

    def attach(self, host: nn.Module, key: Key) -> Waved:
        """Return `host` behind a barrier of this key, on its device."""
        scheme = key.scheme
        barred = Waved(host, int(scheme["channels"]), int(scheme["scale"]), key.leaves)
        for index in range(key.leaves):
            secret_k, secret_b = key.leaf(index)
            numbers, phases = tone_carriers.carriers(key.scheme, secret_k, key.salt)
            signs = tone_carriers.bits(key.scheme, secret_b, key.salt)
            for buffer, values in ((barred.numbers, numbers), (barred.phases, phases), (barred.signs, signs)):
                buffer[index] = torch.from_numpy(values).to(buffer)
        barred.amplitude.fill_(self.amplitude)
        return barred.train(host.training)


class Waved(Barred):
    """A host and waves behind it; it turns and flips with the picture.

    Args:
        host: the protected model.
        channels: of its answers, 1 or 3.
        scale: s.
        leaves: of the key.
    """

    numbers: Tensor
    phases: Tensor
    signs: Tensor

    def __init__(self, host: nn.Module, channels: int, scale: int, leaves: int) -> None:
        super().__init__(host, scale)
        device, cells = device_of(host), (leaves, tone_carriers.CELLS)
        self.register_buffer("numbers", torch.zeros((*cells, channels + 2), dtype=torch.int8, device=device))
        self.register_buffer("phases", torch.zeros(cells, dtype=torch.uint8, device=device))
        self.register_buffer("signs", torch.zeros(cells, dtype=torch.int8, device=device))

    def residual(self, shown: Tensor) -> Tensor:
        """Return what is added to every channel: (B, C, H, W) in [0, 1] to (B, 1, H, W)."""
        tone = shown.mean(1, keepdim=True)
        contrast = box(box((box(tone, 1) - box(tone, 4)).abs(), 2), 2) * 255
        fine = tone_carriers.EDGE * (box(box(tone, 2), 2) - box(box(tone, 5), 5)) * 255
        texture = 256 * contrast / (contrast + tone_carriers.CONTRAST)
        coordinates = torch.cat([box(box(shown, 2), 1) * 255, fine, texture], 1)
        total = torch.zeros_like(tone)
        for numbers, phases, signs in zip(self.numbers, self.phases, self.signs, strict=True):
            turns = numbers.float()[:, :, None, None] * (math.tau / 4096)
            waves = torch.sin(F.conv2d(coordinates, turns, phases.float() * (math.tau / 256)))
            total = total + F.conv2d(waves, signs.float()[None, :, None, None])
        total = total * math.sqrt(2 / self.signs.numel())
        gain = ((contrast + 3) / 6).clamp(0.5, 1.0)  # less where it would be seen
        change = _detail(gain * _detail(total)).clamp(-4.0, 4.0)
        return change * (self.amplitude.float() / 255)


def _detail(plane: Tensor) -> Tensor:
    return plane - box(box(plane, 3), 3)
