"""RISTN: residual invertible spatio-temporal network for video super-resolution (Zhu et al., AAAI 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from modelguard import weights
from modelguard.datasets import windows
from modelguard.errors import InputError
from modelguard.networks.modes import device_of, evaluating
from modelguard.networks.rdc_lstm import RDCLSTM
from modelguard.networks.rib import SpatialFeatures
from modelguard.networks.vdsr import bicubic

SCALE = 4
FAMILY = "ristn"


@dataclass(frozen=True)
class RISTNSizes:
    """All that shapes a RISTN; saved with its weights. The defaults are the published net.

    Args:
        width: channels of the first spatial stage; each stage doubles them.
        stages: depths of the blocks of each spatial stage, in the order in which they are concatenated.
        layers: of the RDC-LSTM.
        growth: hidden channels of one of its layers and directions.
        features: channels of the reconstruction.
        temporal: false leaves out the RDC-LSTM, so that frames do not know of each other.
        skip: add the bicubic up-scaling of the input, which the published net does not.
    """

    width: int = 16
    stages: tuple[tuple[int, ...], ...] = ((6,), (8, 6), (12, 10), (6, 10))
    layers: int = 10
    growth: int = 16
    features: int = 256
    temporal: bool = True
    skip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(tuple(stage) for stage in self.stages))  # JSON has lists
        for name in ("width", "layers", "growth", "features"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} is no size", "use a whole number from 1")
        if self.width < 6 or self.width % 2:
            raise InputError(f"width: {self.width} channels cannot be halved and divided", "use 6, 8, 16 ...")
        if not self.stages or any(
            len(stage) != 1 + (number > 0) or min(stage) < 1 for number, stage in enumerate(self.stages)
        ):
            raise InputError(
                f"stages: {self.stages} are no depths", "give one for the first stage and two for the others"
            )


class Slope(nn.Module):
    """PReLU with one shared slope, in elementary steps, which take the CPU a third of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Return x where it is positive, and its multiple elsewhere."""
        positive = x.relu()
        return positive + self.weight.to(x.dtype) * (x - positive)


class RISTN(nn.Module):
    """Four times larger frames from a clip: spatial features, RDC-LSTM, sparse fusion, reconstruction.

    Shapes: (B, T, 3, h, w) in [0, 1] to (B, T, 3, 4h, 4w), unclamped; any T, any size. Published for T = 5.
    The reference code builds a second block of the first spatial stage and never uses it (2,072 parameters);
    it is left out here, which leaves 3,801,048. The fusion matrix, which that code fails to register, is the
    weight of a convolution.

    Args:
        sizes: see `RISTNSizes`.
        checkpointing: compute the LSTM layers and the enlargement again in the backward pass, to save memory.
    """

    def __init__(self, sizes: RISTNSizes | None = None, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.sizes, self.checkpointing = sizes or RISTNSizes(), checkpointing
        size = self.sizes
        self.spatial = SpatialFeatures(size.width, size.stages)
        channels = self.spatial.channels
        if size.temporal:
            self.temporal = RDCLSTM(size.layers, size.growth)
            self.adapter_in = nn.Sequential(
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, self.temporal.channels, 1, bias=False),
            )
            self.adapter_out = nn.Sequential(
                nn.Conv2d(self.temporal.channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
        features = size.features
        self.fusion = nn.Conv2d(channels * (1 + size.temporal), features, 1, bias=False)
        # published as N(0, .01); batch norm follows, and so small a matrix turns at every step
        nn.init.normal_(self.fusion.weight, std=self.fusion.in_channels**-0.5)
        self.head = nn.Sequential(
            nn.Conv2d(features, features, 1),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
        )
        self.tail = nn.Sequential(
            nn.ConvTranspose2d(features, features, 2, stride=2, bias=False),
            Slope(),
            nn.ConvTranspose2d(features, features, 2, stride=2, bias=False),
            Slope(),
            nn.Conv2d(features, 3, 3, padding=1, bias=False),
        )
        if size.skip:
            nn.init.normal_(cast(nn.Conv2d, self.tail[-1]).weight, std=1e-3)

    def forward(self, clip: Tensor) -> Tensor:
        """Return the enlarged clip, taken by itself."""
        return self.step(clip)[0]

    def step(
        self, clip: Tensor, state: Tensor | None = None, keep: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return an enlarged window of a longer clip, and the state that the next window begins with.

        Args:
            clip: (B, T, 3, h, w) in [0, 1].
            state: (layers, 2, B, growth, h, w), of the window before; None at the beginning, which is zeros.
            keep: how many frames later the next window begins, 1 to T; by default T. Frames from there on are
                looked at ahead of their turn, and come again.

        Returns:
            (B, T, 3, 4h, 4w), and the state after `keep` frames, None for a net without temporal part.

        Raises:
            InputError: a shape that fits nothing, or `keep` out of range.
        """
        if clip.ndim != 5 or clip.shape[2] != 3 or clip.numel() == 0 or not clip.is_floating_point():
            raise InputError(
                f"clip: its shape is {tuple(clip.shape)}, its values are {clip.dtype}",
                "give (B, T, 3, h, w), RGB floats in [0, 1]",
            )
        batch, frames, _, height, width = clip.shape
        keep = frames if keep is None else keep
        if not 1 <= keep <= frames:
            raise InputError(f"keep: {keep} is not among {frames} frames", "use 1 to the window's length")
        images = clip.transpose(0, 1)  # frame by frame, for the LSTM
        features = self.spatial(images.flatten(0, 1))
        if self.sizes.temporal:
            size = (self.sizes.layers, 2, batch, self.sizes.growth, height, width)
            if state is not None and state.shape != size:
                raise InputError(
                    f"state: its shape is {tuple(state.shape)}, not {size}", "carry it between equal windows"
                )
            sequence = self.adapter_in(features).unflatten(0, (frames, batch))
            checkpointing = self.checkpointing and torch.is_grad_enabled()
            sequence, state = self.temporal(sequence, state, keep, checkpointing)
            features = torch.cat([self.adapter_out(sequence.flatten(0, 1)), features], 1)
        fused = self.head(self.fusion(features)).unflatten(0, (frames, batch))
        # frame by frame: enlarged, their 256 channels are by far the most memory
        large = [self._enlarge(one, image) for one, image in zip(fused, images, strict=True)]
        return torch.stack(large, 1), state

    def fusion_penalty(self) -> Tensor:
        """Return the L1 norm (a sum) of the fusion matrix, a term of the loss that makes it sparse."""
        return self.fusion.weight.abs().sum()

    def _enlarge(self, features: Tensor, image: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            large = cast(Tensor, checkpoint(self.tail, features, use_reentrant=False))
        else:
            large = self.tail(features)
        if not self.sizes.skip:
            return large
        height, width = image.shape[-2:]
        return large + bicubic(image, (height * SCALE, width * SCALE))


def ristn(
    sizes: RISTNSizes | None = None, *, pretrained: str | Path | None = None, checkpointing: bool = False
) -> RISTN:
    """Return a RISTN in evaluation mode; see `RISTN`.

    Args:
        sizes: of an untrained net, by default as published.
        pretrained: name of shipped weights, such as "x4", or the path of a file that `train_ristn` wrote; it
            holds the sizes.
        checkpointing: see `RISTN`.

    Raises:
        InputError: no such weights, or a file that holds no RISTN.
        WeightsError: the file is not the one its card describes.
    """
    if pretrained is None:
        return RISTN(sizes, checkpointing=checkpointing).eval()
    if sizes is not None:
        raise InputError("sizes: trained weights have their own", "give either sizes or pretrained")
    path = Path(pretrained)
    if not path.is_file():
        weights.card(f"{FAMILY}-{pretrained}")
        path = weights.FOLDER / f"{FAMILY}-{pretrained}.safetensors"
    data = weights.read(path)
    try:
        net = RISTN(RISTNSizes(**weights.config(data)[FAMILY]), checkpointing=checkpointing)
    except (TypeError, LookupError) as error:
        raise InputError(f"pretrained: {path} holds no RISTN", "give a file train_ristn wrote") from error
    weights.load_state(net, data)
    return net.eval()


def upscale(
    net: RISTN, frames: Iterable[Tensor], *, length: int = 5, step: int = 3, carry: bool = True
) -> Iterator[Tensor]:
    """Yield the frames of a video enlarged four times, as they come; memory does not grow with its length.

    A window of `length` frames is taken every `step` frames; the frames after `step` are looked at ahead and
    come again in the next window. The last window gives all frames it has, and is filled up by repeating the
    last one. Wrap it in `rich.progress.track` to see how far it is.

    Args:
        net: used in evaluation mode where it is, and put back.
        frames: (3, h, w) in [0, 1], all of one size, such as `datasets.read_frames` yields.
        length: frames of a window.
        step: from 1 to `length`.
        carry: hand the LSTM's state on from window to window; the published results do not.

    Yields:
        (3, 4h, 4w) on the CPU, unclamped, one for each frame.

    Raises:
        InputError: no frames, or of differing sizes.
    """
    device, state = device_of(net), None
    for window, count in windows(frames, length, step):
        with evaluating(net):
            large, after = net.step(window[None].to(device), state, step)
        state = after if carry else None
        yield from large[0, :count].cpu()
