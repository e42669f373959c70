"""A U-Net around the encoder of any timm network."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.errors import InputError
from modelguard.networks.unet import reflected

CHOICE = "choose a convolutional network of timm.list_models(), such as resnet18"


class TimmUNet(nn.Module):
    """The first three scales of an encoder from timm, and a decoder that leads its features to full size.

    A path at full size goes around the encoder, which starts at half or a quarter of it; the whole predicts
    the change of the image. Needs the extra `timm`. Shapes: (B, channels, H, W) in [0, 1] of any size to the
    same, unclamped.

    Args:
        channels: 1 for grey, 3 for colour.
        encoder: name of a timm network that gives features at several scales.
        width: channels of the decoder.
        pretrained: start from the encoder's ImageNet weights, which timm downloads.

    Raises:
        InputError: timm is not installed, or has no such encoder.
    """

    def __init__(
        self, channels: int = 3, encoder: str = "resnet10t", width: int = 32, *, pretrained: bool = False
    ) -> None:
        super().__init__()
        timm = library(encoder)
        try:
            net: Any = timm.create_model(
                encoder, features_only=True, out_indices=(0, 1, 2), in_chans=channels, pretrained=pretrained
            )
        except (RuntimeError, AssertionError, AttributeError, ValueError) as error:
            raise InputError(f"encoder: {encoder!r} gives no features ({error})", CHOICE) from error
        self.encoder: nn.Module = net
        self.multiple: int = net.feature_info.reduction()[-1]
        coarse, *finer = reversed(net.feature_info.channels())
        self.start = nn.Conv2d(coarse, width, 1)
        self.lateral = nn.ModuleList(nn.Conv2d(depth, width, 1) for depth in finer)
        self.merge = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in finer)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )
        self.tail = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image."""
        height, width = image.shape[-2:]
        wide = reflected(image, self.multiple)
        coarse, *finer = reversed(self.encoder(wide))
        x = self.start(coarse)
        for lateral, merge, features in zip(self.lateral, self.merge, finer, strict=True):
            x = merge(_enlarged(x, features) + lateral(features)).relu()
        x = (_enlarged(x, wide) + self.stem(wide)).relu()
        return cast(Tensor, wide + self.tail(self.body(x)))[..., :height, :width]


def library(encoder: str) -> Any:
    """Return timm; raises InputError if it is not installed, or has no such encoder."""
    try:
        import timm
    except ImportError as error:
        raise InputError("encoder: timm is not installed", "pip install 'modelguard-sdk[timm]'") from error
    if not timm.is_model(encoder):
        raise InputError(f"encoder: timm has no {encoder!r}", CHOICE)
    return timm


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")
