"""The classifier C of Zhang et al. (TPAMI 2022): which mark is in a picture."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class LogoClassifier(nn.Module):
    """Three convolutions and the mean over all places.

    Shapes: (B, channels, H, W) in [0, 1] to (B, marks + 1) logits; class 0 is the blank. The paper says
    no more of its layers; strides of 4 let every place see 53 px.

    Args:
        channels: of the picture.
        marks: how many there are to tell apart.
        width: feature channels.
    """

    def __init__(self, channels: int = 1, marks: int = 1, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 5, 4, 2),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, 4, 2),
            nn.ReLU(),
            nn.Conv2d(width, marks + 1, 3, padding=1),
        )

    def forward(self, picture: Tensor) -> Tensor:
        """Return the logits."""
        return cast(Tensor, self.body(picture)).mean((2, 3))
