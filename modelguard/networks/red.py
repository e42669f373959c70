"""RED: residual encoder-decoder with symmetric skips (Mao et al., NeurIPS 2016)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class RED(nn.Module):
    """Thirteen layers of 64 channels: six convolutions, six deconvolutions, then one to the image.

    Every second encoder output is added to its mirrored decoder layer and the input to the last; the variant
    of 407,425 parameters that Quan et al. report as 4.08e5. Shapes: (B, channels, H, W) in [0, 1] to the
    same, unclamped.

    Args:
        channels: 1 for grey, 3 for colour.
        width: feature channels.
    """

    def __init__(self, channels: int = 1, width: int = 64) -> None:
        super().__init__()
        sizes = [channels, *[width] * 5]
        self.encoder = nn.ModuleList(nn.Conv2d(size, width, 3, padding=1) for size in sizes)
        self.decoder = nn.ModuleList(nn.ConvTranspose2d(width, width, 3, padding=1) for _ in range(6))
        self.tail = nn.ConvTranspose2d(width, channels, 3, padding=1)
        for layer in [*self.encoder, *self.decoder]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(cast(Tensor, self.tail.bias))

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image."""
        x, skips = image, []
        for depth, layer in enumerate(self.encoder, start=1):
            x = layer(x).relu()
            if depth in (2, 4):
                skips.append(x)
        for depth, layer in enumerate(self.decoder, start=1):
            x = layer(x)
            if depth in (2, 4):
                x = x + skips.pop()
            x = x.relu()
        return cast(Tensor, self.tail(x)) + image
