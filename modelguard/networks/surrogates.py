"""The networks a thief may train, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from modelguard.errors import InputError
from modelguard.networks.cnet import CNet
from modelguard.networks.resnet_generator import ResNetGenerator
from modelguard.networks.timm_unet import TimmUNet, library
from modelguard.networks.transformer_restorer import TransformerRestorer
from modelguard.networks.unet import UNet

FORMS = "cnet, res9, res16, unet or transformer, or one of them with a width (unet-16), or timm-ENCODER"


class Residual(nn.Module):
    """Adds what `net` answers, an image in [0, 1], to the input as a change in (-1, 1).

    The published surrogates are trained so: x + tanh(net).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image, unclamped."""
        return image + 2 * cast(Tensor, self.net(image)) - 1


def surrogate(name: str, channels: int = 3) -> nn.Module:
    """Return an untrained network that maps (B, channels, H, W) in [0, 1], of any size, to the same.

    Args:
        name: "cnet", "res9", "res16", "unet" (64 channels wide, as in the paper) or "transformer" (32), with
            another width behind a dash: "cnet-8", "unet-16"; or "timm-" and an encoder of timm:
            "timm-resnet18".
        channels: 1 for grey, 3 for colour.

    Raises:
        InputError: there is no such network.
    """
    return builder(name)(channels)


def builder(name: str) -> Callable[[int], nn.Module]:
    """Return the function of the channels that builds the network called `name`; see `surrogate`."""
    family, _, rest = name.partition("-")
    if family == "timm" and rest:
        library(rest)
        return lambda channels: TimmUNet(channels, rest)
    if family not in _FAMILIES:
        raise InputError(f"network: there is no surrogate {name!r}", f"write {FORMS}")
    build, width = _FAMILIES[family]
    if rest and not re.fullmatch(r"[1-9]\d{0,3}", rest):
        raise InputError(f"network: {name!r} has no width behind the dash", f"write {FORMS}")
    return lambda channels: build(channels, int(rest or width))


_FAMILIES: dict[str, tuple[Callable[[int, int], nn.Module], int]] = {
    "cnet": (CNet, 64),
    "res9": (lambda channels, width: ResNetGenerator(channels, 9, width), 64),
    "res16": (lambda channels, width: ResNetGenerator(channels, 16, width), 64),
    "unet": (lambda channels, width: Residual(UNet(channels, channels, width=width)), 64),
    "transformer": (TransformerRestorer, 32),
}
