"""RIIS: a conditional flow that hides pictures in a picture and reveals them from a distorted one.

After Xu et al., "Robust Invertible Image Steganography", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from modelguard.errors import InputError
from modelguard.networks.coupling import DenseBlock
from modelguard.networks.dncnn import DnCNN
from modelguard.networks.flow import ActNorm, FlowBlock
from modelguard.networks.haar import WaveletSizes, analyse, synthesise


@dataclass(frozen=True)
class RIISSizes(WaveletSizes):
    """All that shapes a RIIS net; saved with its weights.

    Args:
        secrets: pictures that one container carries, 1 to 5.
        levels: Haar transforms, one of another, before the blocks. With two the blocks see twice as far.
        blocks: flow blocks.
        growth: of the dense sub-nets.
        layers: convolutions of a dense sub-net.
        projection: conditional blocks of the content-aware noise projection (CANP); 0 leaves it out.
        features: channels of its condition, which the extractor G draws from the container.
        enhancement: convolutions of the container enhancement module (CEM); 0 leaves it out.
        width: of the CEM.
        distortion: numbers that say how a picture was distorted.
        modulated: whether these steer the couplings (DGM).
        decoupled: whether revealing has its own copy of the flow (second stage of 2DT).
    """

    secrets: int = 1
    levels: int = 1
    blocks: int = 8
    growth: int = 32
    layers: int = 5
    projection: int = 2
    features: int = 16
    enhancement: int = 8
    width: int = 48
    distortion: int = 3
    modulated: bool = True
    decoupled: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("projection", "enhancement") else 1
            if not isinstance(value, bool) and (not isinstance(value, int) or value < least):
                raise InputError(f"{name}: {value!r} is no size", f"use a whole number from {least}")
        if not self.secrets <= 5:
            raise InputError(f"secrets: {self.secrets} are too many for a picture", "use 1 to 5")
        if self.layers < 2:
            raise InputError(f"layers: {self.layers} leaves a sub-net linear", "use 2 or more")
        if self.enhancement in (1, 2):
            raise InputError(f"enhancement: {self.enhancement} convolutions are too few", "use 3 or more")


class Flow(nn.Module):
    """The flow blocks with their noise projection: bands of host and secrets to the container's, and z.

    Shapes: (B, bands * (1 + secrets), h, w) to (B, bands, h, w) and (B, bands * secrets, h, w). The first
    blocks start without mixing and the last actnorm starts at the host's mean and spread, so that the
    container starts near the host.
    """

    def __init__(self, sizes: RIISSizes) -> None:
        super().__init__()
        host, rest = sizes.bands, sizes.bands * sizes.secrets
        levels = sizes.distortion if sizes.modulated else 0
        self.sizes = [host, rest]
        self.blocks = nn.ModuleList(
            FlowBlock(host, rest, sizes.growth, sizes.layers, levels=levels) for _ in range(sizes.blocks)
        )
        self.last = ActNorm(host)
        halves = rest // 2, rest - rest // 2
        condition = sizes.features if sizes.projection else 0
        self.extractor = DenseBlock(host, sizes.growth, sizes.layers, condition) if condition else None
        self.projection = nn.ModuleList(
            FlowBlock(*halves, sizes.growth, sizes.layers, condition, levels, mixed=True)
            for _ in range(sizes.projection)
        )

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set every actnorm from the bands of some hosts and secrets."""
        host = x[:, : self.sizes[0]]
        for block in cast("list[FlowBlock]", list(self.blocks)):
            block.norm.initialise(x)
            x, _ = block(x)
        y, z = torch.split(x, self.sizes, 1)
        self.last.initialise(y, host)
        condition = self._condition(self.last(y))
        for block in cast("list[FlowBlock]", list(self.projection)):
            block.norm.initialise(z)
            z, _ = block(z, condition)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bands of the container, z, and the log-determinant a value of z, (B,)."""
        log_det = self.last.log_scale.sum()
        for block in self.blocks:
            x, more = block(x)
            log_det = log_det + more
        y, z = torch.split(x, self.sizes, 1)
        y = self.last(y)
        condition = self._condition(y)
        for block in self.projection:
            z, more = block(z, condition)
            log_det = log_det + more
        return y, z, log_det / self.sizes[1]

    def inverse(self, y: Tensor, z: Tensor, level: Tensor | None = None) -> Tensor:
        """Return the bands of host and secrets; exactly what `forward` maps to these, if `level` is 0."""
        condition = self._condition(y)
        for block in reversed(self.projection):
            z = block.inverse(z, condition, level)  # type: ignore[operator]
        x = torch.cat([self.last.inverse(y), z], 1)
        for block in reversed(self.blocks):
            x = block.inverse(x, None, level)  # type: ignore[operator]
        return x

    def _condition(self, y: Tensor) -> Tensor | None:
        return None if self.extractor is None else self.extractor(y)


class Inspector(nn.Module):
    """What can be told from a picture alone: how it was distorted, and whether it is a container.

    Its strides make steps of the 8 pixels of a JPEG block. Learns beside the rest without touching it.
    """

    def __init__(self, levels: int, width: int = 32) -> None:
        super().__init__()
        sizes = [(12, 1), (width, 2), (width, 2), (width, 1)]
        self.body = nn.Sequential(
            *(
                layer
                for inputs, stride in sizes
                for layer in (nn.Conv2d(inputs, width, 3, stride, padding=1), nn.ReLU(inplace=True))
            )
        )
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, levels + 1)
        )
        for module in self.body[::2]:
            nn.init.kaiming_normal_(cast(nn.Conv2d, module).weight, nonlinearity="relu")

    def features(self, image: Tensor) -> Tensor:
        """Return what is averaged over a picture (B, 3, H, W): fp32 (B, width)."""
        bands = analyse(image, 1)
        details = 10 * bands[:, 3:]  # where noise shows; a tenth of the coarse band in photos
        seen: Tensor = self.body(torch.cat([bands[:, :3], details], 1))
        return seen.float().mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, levels + 1): the level of the distortion, and the logit of being a container."""
        judged: Tensor = self.head(self.features(image))
        return judged.float()


class Passed(NamedTuple):
    """All that a loss needs of one way there and back; pictures are unclamped (B, [S,] 3, H, W)."""

    container: Tensor
    z: Tensor
    log_det: Tensor
    restored: Tensor
    host: Tensor
    secrets: Tensor
    judged: Tensor
    judged_host: Tensor


class RIISNet(nn.Module):
    """Hides pictures with a flow and reveals them with its inverse.

    Pictures are (B, 3, H, W) in [0, 1], sides multiples of `sizes.scale`. What the container lost is
    replaced by the mode of its model, z = 0, rather than by the Gaussian draw of the paper: the answer is
    then a function of the picture alone.
    """

    def __init__(self, sizes: RIISSizes) -> None:
        super().__init__()
        self.sizes = sizes
        # hiding knows no distortion
        self.flow = Flow(replace(sizes, modulated=False) if sizes.decoupled else sizes)
        self.revealing = Flow(sizes) if sizes.decoupled else None
        self.enhancement = None
        if sizes.enhancement:
            self.enhancement = DnCNN(sizes.enhancement, sizes.bands, sizes.width, batch_norm=False)
        self.inspector = Inspector(sizes.distortion)

    def decoupled(self) -> RIISNet:
        """Return a copy whose revealing flow, equal at first, goes its own way in training (2DT)."""
        net, state = RIISNet(replace(self.sizes, decoupled=True)), self.state_dict()
        state |= {f"revealing.{key}": value for key, value in self.flow.state_dict().items()}
        net.load_state_dict({key: state[key] for key in net.state_dict()})
        return net

    @torch.no_grad()
    def initialise(self, host: Tensor, secrets: Tensor) -> None:
        """Set every actnorm from some hosts and secrets; see `hide`."""
        for flow in filter(None, (self.flow, self.revealing)):
            flow.initialise(self._joined(host, secrets))

    def hide(self, host: Tensor, secrets: Tensor) -> Tensor:
        """Return the container of `host` and `secrets`, (B, S, 3, H, W)."""
        y, _, _ = self.flow(self._joined(host, secrets))
        return synthesise(y, self.sizes.levels)

    def reveal(self, picture: Tensor, level: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return host and secrets of a container that was distorted by `level`, (B, distortion)."""
        self._check(picture)
        return self._revealed(self._enhanced(analyse(picture, self.sizes.levels)), level)

    def inspect(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return the estimated level (B, distortion), and the logit of being a container, (B,)."""
        judged = self.inspector(picture)
        return judged[:, :-1].clamp_min(0), judged[:, -1]

    def forward(
        self, host: Tensor, secrets: Tensor, distort: Callable[[Tensor], Tensor], level: Tensor
    ) -> Passed:
        """Hide, let `distort` do what happens on the way, and reveal."""
        y, z, log_det = self.flow(self._joined(host, secrets))
        container = synthesise(y, self.sizes.levels)
        distorted = distort(container)
        restored = self._enhanced(analyse(distorted, self.sizes.levels))
        back, revealed = self._revealed(restored, level)
        judged, innocent = self.inspector(distorted.detach()), self.inspector(distort(host).detach())
        enhanced = synthesise(restored, self.sizes.levels)
        return Passed(container, z, log_det, enhanced, back, revealed, judged, innocent)

    def _revealed(self, y: Tensor, level: Tensor | None) -> tuple[Tensor, Tensor]:
        z = y.new_zeros(len(y), self.sizes.bands * self.sizes.secrets, *y.shape[2:])
        bands = (self.revealing or self.flow).inverse(y, z, level)
        separate = bands.reshape(-1, self.sizes.bands, *bands.shape[2:])
        pictures = synthesise(separate, self.sizes.levels)
        host, *secrets = pictures.reshape(len(y), -1, *pictures.shape[1:]).unbind(1)
        return host, torch.stack(secrets, 1)

    def _enhanced(self, bands: Tensor) -> Tensor:
        if self.enhancement is None:
            return bands
        restored: Tensor = self.enhancement(bands)
        return restored.float()

    def _joined(self, host: Tensor, secrets: Tensor) -> Tensor:
        self._check(host)
        if secrets.shape != (len(host), self.sizes.secrets, *host.shape[1:]):
            raise InputError(
                f"secrets: {tuple(secrets.shape)} do not fit hosts of {tuple(host.shape)}",
                f"give a float tensor (B, {self.sizes.secrets}, 3, H, W) of the hosts' size",
            )
        pictures = torch.cat([host[:, None], secrets], 1)
        bands = analyse(pictures.flatten(0, 1), self.sizes.levels)
        return bands.reshape(len(host), -1, *bands.shape[2:])

    def _check(self, image: Tensor) -> None:
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            raise InputError(
                f"image: {tuple(image.shape)} of {image.dtype} does not fit the net",
                "give a float tensor (B, 3, H, W) in [0, 1]",
            )
        if image.shape[2] % self.sizes.scale or image.shape[3] % self.sizes.scale:
            raise InputError(
                f"image: {image.shape[2]} x {image.shape[3]} are no multiples of {self.sizes.scale}",
                "pad it first",
            )
