"""Invertible coupling of an image and a message branch through dense sub-nets, as in DBMARK and HiNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseBlock(nn.Module):
    """3x3 convolutions of which each sees all earlier features (Huang et al., CVPR 2017); the last is linear.

    Shapes: (B, channels, H, W) to (B, outputs, H, W).

    Args:
        channels: that come in.
        growth: features a convolution adds.
        layers: convolutions, the last among them.
        outputs: channels that go out; by default as many as come in.
    """

    def __init__(self, channels: int, growth: int = 32, layers: int = 5, outputs: int | None = None) -> None:
        super().__init__()
        widths = [channels + growth * i for i in range(layers)]
        self.hidden = nn.ModuleList(nn.Conv2d(width, growth, 3, padding=1) for width in widths[:-1])
        self.last = nn.Conv2d(widths[-1], outputs or channels, 3, padding=1)
        for layer in [*self.hidden, self.last]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        # HiNet starts the last layer at zero. Then no message enters the image and none is read from it: a
        # saddle at which each half of the net gets its gradient through the other, and so none.
        with torch.no_grad():
            self.last.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        features = [x]
        for layer in self.hidden:
            features.append(nn.functional.leaky_relu(layer(torch.cat(features, 1)), 0.01))
        output: Tensor = self.last(torch.cat(features, 1))
        return output


def log_scale(raw: Tensor, limit: float) -> Tensor:
    """Return the bounded, centred log-scale of a coupling, fp32 in (-limit, limit), 0 at 0."""
    return limit * torch.tanh(raw.float() / 2)  # a sigmoid, centred


class Coupling(nn.Module):
    """One invertible block: an additive step on the image branch, an affine one on the message branch.

    `inverse` recovers the message branch first, from the image branch that came out. (The paper prints the
    incoming branches on the right of its inverse, which cannot be computed.) The log-scale lies in
    (-limit, limit) and is 0 at rest; the paper's bare sigmoid would amplify in every block. Sums stay in fp32
    under autocast, where only the sub-nets run in bf16.

    Args:
        channels: of either branch.
        growth: see `DenseBlock`.
        layers: see `DenseBlock`.
        limit: largest log-scale.
    """

    def __init__(self, channels: int, growth: int = 32, layers: int = 5, limit: float = 1.0) -> None:
        super().__init__()
        self.phi, self.rho, self.eta = (DenseBlock(channels, growth, layers) for _ in range(3))
        self.limit = limit

    def _log_scale(self, image: Tensor) -> Tensor:
        return log_scale(self.rho(image), self.limit)

    def forward(self, image: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
        """Return both branches after the block, fp32."""
        image = image + self.phi(message).float()
        message = message * torch.exp(self._log_scale(image)) + self.eta(image).float()
        return image, message

    def inverse(self, image: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
        """Return the branches that `forward` maps to these, fp32."""
        message = (message - self.eta(image).float()) * torch.exp(-self._log_scale(image))
        return image - self.phi(message).float(), message
