"""RIIS as a codec: pictures hidden in a picture, and revealed from what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from modelguard.codecs.pictures import Picture, like, opened
from modelguard.codecs.pretrained import pretrained
from modelguard.codecs.tiles import starts, tiled
from modelguard.datasets import to_uint8
from modelguard.distortions import Grey, level_of, nearest
from modelguard.errors import InputError
from modelguard.networks import bicubic, device_of, evaluating
from modelguard.networks.riis import RIISNet, RIISSizes

PREFIX = "riis-"
SMALLEST = 32  # px of a side; less is nearly all border
TILE, OVERLAP = 512, 128
GAP = 25  # px; narrower gaps between edited places are marked with them
GRID = 8  # sides are padded to whole JPEG blocks, which are whole wavelet pixels too


@dataclass(frozen=True, eq=False)
class Revealed:
    """What a container was said to hold; unpacks as `secrets, host = ...`.

    Attributes:
        secrets: as many pictures as the weights carry, 8 bits, in the form and size of the container.
        host: likewise, what the container was made from.
        score: 0 to 1, how much the picture looks like a container of these weights; a learnt guess, not a
            probability. See `credible`.
        distortion: that was reckoned with, given or guessed.
    """

    secrets: tuple[Any, ...]
    host: Any
    score: float
    distortion: nn.Module

    @property
    def credible(self) -> bool:
        """Whether the score is above one half; below it the secrets most likely mean nothing."""
        return self.score > 0.5

    def __iter__(self) -> Iterator[Any]:
        """Yield the secrets, then the host."""
        return iter((self.secrets, self.host))


@dataclass(frozen=True, eq=False)
class Located:
    """Where a container was edited.

    Attributes:
        mask: bool (H, W), true where what is revealed is not what was hidden.
        error: float32 (H, W), squared error of what is revealed, 0 to 1, smoothed; what `mask` is from.
        score: of the whole picture; see `Revealed`.
    """

    mask: npt.NDArray[np.bool_]
    error: npt.NDArray[np.float32]
    score: float

    @property
    def credible(self) -> bool:
        """Whether the score is above one half; below it the mask most likely means nothing."""
        return self.score > 0.5

    @property
    def share(self) -> float:
        """The part of the picture that is marked as edited."""
        return float(self.mask.mean())


class RIIS:
    """Hides whole pictures in a picture with a trained invertible net.

    The net sees each place with its surroundings, so any size and aspect will do; secrets are resized to the
    host. Large pictures are worked on in tiles that fade into each other. A container may be saved with loss;
    it must keep its size and frame. Of one cut along its 8-pixel grid the rest can be revealed.

    Args:
        net: trained.
        name: of the weights.
    """

    def __init__(self, net: RIISNet, name: str) -> None:
        self.net, self.name = net.eval(), name

    @classmethod
    def from_pretrained(cls, name: str | Path) -> RIIS:
        """Return the codec with weights that ship, or from a safetensors file; see `pretrained`.

        Raises:
            InputError: nothing of that name ships, or the file holds no RIIS net.
            WeightsError: the file is not the one its card describes.
        """
        return cls(*pretrained("riis", name, lambda sizes: RIISNet(RIISSizes(**sizes))))

    @property
    def capacity(self) -> int:
        """Pictures that a container carries."""
        return self.net.sizes.secrets

    @overload
    def hide(self, host: Tensor, secrets: Picture | Sequence[Picture]) -> Tensor: ...
    @overload
    def hide(
        self, host: npt.NDArray[np.uint8], secrets: Picture | Sequence[Picture]
    ) -> npt.NDArray[np.uint8]: ...
    @overload
    def hide(self, host: Image.Image | Path | str, secrets: Picture | Sequence[Picture]) -> Image.Image: ...
    def hide(
        self, host: Picture, secrets: Picture | Sequence[Picture]
    ) -> Tensor | npt.NDArray[np.uint8] | Image.Image:
        """Return `host` with `secrets` in it, rounded to 8 bits.

        Args:
            host: (3, H, W) or (1, 3, H, W) tensor, float in [0, 1] or uint8; uint8 array (H, W, 3); RGB PIL
                picture; path.
            secrets: one to `capacity` pictures in any of these forms, grey as well, of any size: they are
                resized to the host. Places left over are filled with grey.

        Returns:
            The form and size of the host; a PIL picture for a path.

        Raises:
            InputError: a picture cannot be used, or there are too many.
        """
        colour = _colour(host, "host")
        size = (colour.shape[2], colour.shape[3])
        hidden = self._hidden(secrets, size)
        hidden += [torch.full_like(colour, 0.5)] * (self.capacity - len(hidden))
        joined = torch.cat([colour, *(one.to(colour.device) for one in hidden)], 1)

        def work(part: Tensor) -> Tensor:
            first, *others = part.to(device_of(self.net)).chunk(1 + self.capacity, 1)
            return self.net.hide(first, torch.stack(others, 1)).cpu()

        with evaluating(self.net):
            container = tiled(work, _padded(joined), TILE, OVERLAP)
        return like(host, _rounded(container, size))

    def reveal(self, container: Picture, distortion: nn.Module | None = None) -> Revealed:
        """Return what a container holds.

        Args:
            container: one RGB picture in any of the forms that `hide` takes.
            distortion: what happened to it: `Noise(sigma)`, `Poisson()`, `Jpeg(quality)`, `Quantise()` for
                nothing; None to guess from the picture.

        Raises:
            InputError: the picture cannot be used, or the distortion is of another kind.
        """
        level = None if distortion is None else level_of(distortion)
        colour = _colour(container, "container")
        size = (colour.shape[2], colour.shape[3])
        whole = _padded(colour)
        with evaluating(self.net):
            guess, score = self._inspect(whole)
            level = guess if level is None else level

            def work(part: Tensor) -> Tensor:
                device = device_of(self.net)
                host, secrets = self.net.reveal(part.to(device), level.to(device)[None])
                return torch.cat([host, *secrets.unbind(1)], 1).cpu()

            pictures = tiled(work, whole, TILE, OVERLAP)
        host, *secrets = (
            like(container, _rounded(one, size)) for one in pictures.chunk(1 + self.capacity, 1)
        )
        return Revealed(tuple(secrets), host, score, nearest(level) if distortion is None else distortion)

    def locate(
        self, picture: Picture, secrets: Picture | Sequence[Picture], distortion: nn.Module | None = None
    ) -> Located:
        """Return where a container that hides known pictures was edited since.

        A place counts as edited where the revealed pictures, smoothed, differ from the known ones by more
        than 25 dB of PSNR allow, and by eight times the median of the picture. Gaps of less than 25 px are
        filled, and the rim, which the net blurs, is taken off. So less than half of the picture may be
        edited, and the secrets should have contrast everywhere: a flat grey one is revealed from nothing.
        What was moved counts as edited: all that lies beyond a strip that was cut out or widened.

        Args:
            picture: see `reveal`; of the container's size and frame.
            secrets: the pictures that `hide` was given, in order.
            distortion: see `reveal`.

        Raises:
            InputError: a picture cannot be used, or there are too many.
        """
        colour = _colour(picture, "picture")
        hidden = self._hidden(secrets, (colour.shape[2], colour.shape[3]))
        found = self.reveal(colour, distortion)
        pairs = zip(found.secrets, hidden, strict=False)
        # noise of the net is fine, what an edit leaves is coarse
        coarse = [_mean_around(one - other, 5).square().mean(1) for one, other in pairs]
        error = _mean_around(torch.stack(coarse).mean(0), 5)[0]
        edited = (error > max(3e-3, 8 * float(error.median()))).float()[None]
        closed = -_largest_around(-_largest_around(edited, GAP), GAP)
        mask = _mean_around(closed, GAP)[0] > 0.75
        return Located(mask.numpy(), error.numpy(), found.score)

    def decolour(self, picture: Picture) -> Any:
        """Return a picture that looks grey and carries its own colours: the host is its BT.601 luma.

        It must stay RGB, whose channels are nearly equal: one saved as grey has lost what it carried.

        Args:
            picture: one RGB picture in any of the forms that `hide` takes.

        Returns:
            Its form and size; a PIL picture for a path.

        Raises:
            InputError: the picture cannot be used.
        """
        colour = _colour(picture, "picture")
        return like(picture, to_uint8(self.hide(Grey()(colour), colour)))

    def recolour(self, container: Picture, distortion: nn.Module | None = None) -> Any:
        """Return the picture in colours that `decolour` was given; takes what `reveal` takes."""
        return self.reveal(container, distortion).secrets[0]

    def _hidden(self, secrets: Picture | Sequence[Picture], size: tuple[int, int]) -> list[Tensor]:
        """Return pictures to hide as (1, 3, *size) in [0, 1]."""
        given = [secrets] if isinstance(secrets, (Tensor, np.ndarray, Image.Image, str, Path)) else [*secrets]
        if not 1 <= len(given) <= self.capacity:
            raise InputError(
                f"secrets: {len(given)} pictures, but {self.name} carries 1 to {self.capacity}",
                "hide fewer, or use weights that carry more: clean-5 carries five, the most there is",
            )
        colours = [_colour(one, f"secrets[{number}]", grey=True) for number, one in enumerate(given)]
        return [bicubic(one, size).clamp(0, 1) for one in colours]

    def _inspect(self, whole: Tensor) -> tuple[Tensor, float]:
        """Return the guessed level (LEVELS,) and the score, from the mean of the tiles' features."""
        device, inspector = device_of(self.net), self.net.inspector
        total, pixels = torch.zeros((), device=device), 0
        for top in starts(whole.shape[2], TILE, 0):
            for left in starts(whole.shape[3], TILE, 0):
                part = whole[..., top : top + TILE, left : left + TILE].to(device)
                total = total + inspector.features(part) * part[0, 0].numel()
                pixels += part[0, 0].numel()
        judged = inspector.head(total / pixels)[0].cpu()
        return judged[:-1].clamp_min(0), float(torch.sigmoid(judged[-1]))


def _colour(image: Picture, name: str, *, grey: bool = False) -> Tensor:
    """Return one picture as (1, 3, H, W) in [0, 1]."""
    given = opened(image)
    if len(given.colour) != 1:
        raise InputError(f"{name}: {len(given.colour)} pictures at once", "give one")
    if given.alpha is not None:
        raise InputError(
            f"{name}: its alpha channel cannot be carried", "flatten it, such as by convert('RGB')"
        )
    if given.colour.shape[1] == 1 and not grey:
        raise InputError(
            f"{name}: a grey picture cannot carry colours, and one made grey has lost what it carried",
            "use an RGB picture, such as by convert('RGB') before hiding",
        )
    if min(given.colour.shape[2:]) < SMALLEST and not grey:
        raise InputError(
            f"{name}: {given.colour.shape[3]} x {given.colour.shape[2]} px are too small",
            f"give at least {SMALLEST} x {SMALLEST} px",
        )
    return given.colour.expand(-1, 3, -1, -1).cpu()


def _mean_around(maps: Tensor, window: int) -> Tensor:
    return nn.functional.avg_pool2d(maps, window, 1, window // 2, count_include_pad=False)


def _largest_around(maps: Tensor, window: int) -> Tensor:
    return nn.functional.max_pool2d(maps, window, 1, window // 2)


def _padded(images: Tensor) -> Tensor:
    bottom, right = (-extent % GRID for extent in images.shape[2:])
    return nn.functional.pad(images, (0, right, 0, bottom), mode="replicate")


def _rounded(images: Tensor, size: tuple[int, int]) -> Tensor:
    return to_uint8(images[..., : size[0], : size[1]])
