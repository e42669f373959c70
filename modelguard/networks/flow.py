"""Blocks of a normalising flow: actnorm, an invertible 1x1 convolution, an affine coupling.

After Glow (Kingma and Dhariwal, NeurIPS 2018) and RIIS (Xu et al., CVPR 2022). Sums stay in fp32 under
autocast, where only the sub-nets run in bf16: an inverse is then as near as these repeat themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelguard.networks.coupling import DenseBlock, log_scale


class ActNorm(nn.Module):
    """A scale and a shift a channel, set from data once and learnt from there on.

    Args:
        channels: of (B, channels, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    @torch.no_grad()
    def initialise(self, x: Tensor, like: Tensor | None = None) -> None:
        """Choose scale and shift so that `x` comes out with the mean and spread of `like`, else 0 and 1."""
        mean, spread = _moments(x)
        target, width = (0.0, torch.ones_like(spread)) if like is None else _moments(like)
        self.log_scale.copy_((width / spread).log())
        self.shift.copy_(target - mean * width / spread)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled channels."""
        return x * torch.exp(self.log_scale) + self.shift

    def inverse(self, x: Tensor) -> Tensor:
        """Return what `forward` maps to these."""
        return (x - self.shift) * torch.exp(-self.log_scale)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    spread, mean = torch.std_mean(x.float(), (0, 2, 3))
    return mean[:, None, None], spread[:, None, None].clamp_min(1e-3)


class Rotation(nn.Module):
    """The invertible 1x1 convolution, as the exponential of a skew-symmetric matrix.

    It is a rotation whatever the weights are, so it cannot become singular in training and its transpose
    inverts it; the scales that a free matrix has besides are those of `ActNorm`.

    Args:
        channels: of (B, channels, H, W).
        mixed: start at a random rotation, as Glow does; else at the identity.
    """

    def __init__(self, channels: int, mixed: bool) -> None:
        super().__init__()
        start = torch.randn(channels, channels) if mixed else torch.zeros(channels, channels)
        self.generator = nn.Parameter(start)

    def matrix(self) -> Tensor:
        """Return the rotation, fp32 (channels, channels)."""
        return torch.matrix_exp(self.generator - self.generator.T)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rotated channels."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.einsum("oc,bchw->bohw", self.matrix(), x)

    def inverse(self, x: Tensor) -> Tensor:
        """Return what `forward` maps to these."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.einsum("co,bchw->bohw", self.matrix(), x)


class Modulation(nn.Module):
    """Factors of features from the level of a distortion, by fully connected layers (DGM, after CResMD).

    At level 0 every factor is exactly 1: what is hidden without a distortion is revealed by its inverse.

    Shapes: (B, levels) to (B, outputs, 1, 1).
    """

    def __init__(self, levels: int, outputs: int, hidden: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(levels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
        )
        with torch.no_grad():
            for one in self.body[-1].parameters():
                one.mul_(0.1)

    def forward(self, level: Tensor) -> Tensor:
        """Return the factors, fp32."""
        change: Tensor = self.body(level) - self.body(torch.zeros_like(level))
        return 1 + change.float()[..., None, None]


class AffineCoupling(nn.Module):
    """Either part of the channels scaled and shifted by what the other says.

    Eq. 1 of RIIS; eq. 4 with a condition. A dense block gives scale and shift together; the paper has
    two. The log-scale lies in (-limit, limit) and is 0 at rest.

    Args:
        first: channels of the part that changes first.
        second: channels of the other.
        growth: of the dense blocks.
        layers: of the dense blocks.
        condition: channels of features that the first half sees besides.
        levels: numbers that say how the picture was distorted; 0 for no modulation.
        limit: largest log-scale.
    """

    def __init__(
        self,
        first: int,
        second: int,
        growth: int = 32,
        layers: int = 5,
        condition: int = 0,
        levels: int = 0,
        limit: float = 1.0,
    ) -> None:
        super().__init__()
        self.sizes, self.limit = [first, second], limit
        self.phi = DenseBlock(second + condition, growth, layers, 2 * first)
        self.psi = DenseBlock(first, growth, layers, 2 * second)
        self.modulations = nn.ModuleList(Modulation(levels, 2 * size) for size in self.sizes if levels)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, level: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return all channels after both halves, and the log-determinant a pixel, (B,); fp32."""
        a, b = torch.split(x, self.sizes, 1)
        scale_a, shift = self._of_first(b, condition, level)
        a = a * torch.exp(scale_a) + shift
        scale_b, shift = self._of_second(a, level)
        log_det = scale_a.sum(1).mean((1, 2)) + scale_b.sum(1).mean((1, 2))
        return torch.cat([a, b * torch.exp(scale_b) + shift], 1), log_det

    def inverse(self, x: Tensor, condition: Tensor | None = None, level: Tensor | None = None) -> Tensor:
        """Return what `forward` maps to these, with the same condition and level, fp32."""
        a, b = torch.split(x, self.sizes, 1)
        scale, shift = self._of_second(a, level)
        b = (b - shift) * torch.exp(-scale)
        scale, shift = self._of_first(b, condition, level)
        return torch.cat([(a - shift) * torch.exp(-scale), b], 1)

    def _of_first(self, b: Tensor, condition: Tensor | None, level: Tensor | None) -> tuple[Tensor, Tensor]:
        seen = b if condition is None else torch.cat([b, condition.to(b.dtype)], 1)
        return self._modulated(self.phi(seen), 0, level)

    def _of_second(self, a: Tensor, level: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._modulated(self.psi(a), 1, level)

    def _modulated(self, raw: Tensor, half: int, level: Tensor | None) -> tuple[Tensor, Tensor]:
        raw = raw.float()
        if level is not None and self.modulations:
            raw = raw * self.modulations[half](level)
        scale, shift = raw.chunk(2, 1)
        return log_scale(scale, self.limit), shift


class FlowBlock(nn.Module):
    """Actnorm, rotation and affine coupling, in this order.

    Args:
        first: see `AffineCoupling`.
        second: see `AffineCoupling`.
        growth: see `AffineCoupling`.
        layers: see `AffineCoupling`.
        condition: see `AffineCoupling`.
        levels: see `AffineCoupling`.
        mixed: see `Rotation`.
    """

    def __init__(
        self,
        first: int,
        second: int,
        growth: int = 32,
        layers: int = 5,
        condition: int = 0,
        levels: int = 0,
        mixed: bool = False,
    ) -> None:
        super().__init__()
        self.norm, self.rotation = ActNorm(first + second), Rotation(first + second, mixed)
        self.coupling = AffineCoupling(first, second, growth, layers, condition, levels)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, level: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the channels after the block, and the log-determinant a pixel, (B,); fp32."""
        y, log_det = self.coupling(self.rotation(self.norm(x)), condition, level)
        return y, log_det + self.norm.log_scale.sum()

    def inverse(self, x: Tensor, condition: Tensor | None = None, level: Tensor | None = None) -> Tensor:
        """Return what `forward` maps to these, with the same condition and level, fp32."""
        return self.norm.inverse(self.rotation.inverse(self.coupling.inverse(x, condition, level)))
