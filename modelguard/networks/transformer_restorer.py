"""A small transformer for restoration, with attention between channels (after Zamir et al., CVPR 2022)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.errors import InputError
from modelguard.networks.unet import reflected


class TransformerRestorer(nn.Module):
    """A U-shaped transformer whose attention is between channels, so that its cost grows with the pixels.

    Three scales of `blocks` blocks each way; it predicts the change of the image. Shapes: (B, channels, H, W)
    in [0, 1] of any size to the same, unclamped.

    Args:
        channels: 1 for grey, 3 for colour.
        width: feature channels at full size, a multiple of 8; twice and four times as many below.
        blocks: at each scale, and each way.
    """

    def __init__(self, channels: int = 3, width: int = 32, blocks: int = 2) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise InputError(f"width: {width} cannot be shared among heads", "use a multiple of 8")
        widths = (width, 2 * width, 4 * width)
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.encoder = nn.ModuleList(_stage(one, blocks) for one in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(one, 2 * one, 2, 2) for one in widths[:-1])
        self.bottom = _stage(widths[-1], blocks)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * one, one, 2, 2) for one in reversed(widths[:-1]))
        self.merge = nn.ModuleList(nn.Conv2d(2 * one, one, 1) for one in reversed(widths[:-1]))
        self.decoder = nn.ModuleList(_stage(one, blocks) for one in reversed(widths[:-1]))
        self.tail = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(cast(Tensor, self.tail.bias))

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image."""
        height, width = image.shape[-2:]
        wide = reflected(image, 4)
        x, skips = self.head(wide), list[Tensor]()
        for stage, halve in zip(self.encoder, self.down, strict=True):
            skips.append(stage(x))
            x = halve(skips[-1])
        x = self.bottom(x)
        for double, merge, stage in zip(self.up, self.merge, self.decoder, strict=True):
            x = stage(merge(torch.cat([double(x), skips.pop()], 1)))
        return cast(Tensor, wide + self.tail(x))[..., :height, :width]


class _Norm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x.movedim(1, -1))).movedim(-1, 1)


class _ChannelAttention(nn.Module):
    """Attention with channels as tokens and pixels as their features; heads of 8 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 8
        self.mix = nn.Sequential(
            nn.Conv2d(width, 3 * width, 1), nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width)
        )
        self.temperature = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.mix(x).unflatten(1, (3, self.heads, 8)).flatten(4).unbind(1)
        alike = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        mixed = (alike * self.temperature).softmax(-1) @ value
        return cast(Tensor, self.out(mixed.flatten(1, 2).unflatten(2, x.shape[2:])))


class _GatedFeedForward(nn.Module):
    """One half of the widened features opens and closes the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        )
        self.out = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate, passed = self.widen(x).chunk(2, 1)
        return cast(Tensor, self.out(F.gelu(gate) * passed))


class _Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.body(x))


def _stage(width: int, blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(blocks):
        layers += [
            _Residual(_Norm(width), _ChannelAttention(width)),
            _Residual(_Norm(width), _GatedFeedForward(width)),
        ]
    return nn.Sequential(*layers)
