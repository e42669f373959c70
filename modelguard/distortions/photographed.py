"""A picture printed and photographed, simulated, and a photo put straight."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import perspective

from modelguard.distortions.channel import Blur, Jpeg, Noise, check_images
from modelguard.distortions.simulation import ForwardASL
from modelguard.errors import InputError
from modelguard.networks import bicubic

SCALE = 2  # pixels of the photo to one of the picture, along a side


class PrintAndPhoto(nn.Module):
    """Printing and photographing, simulated, and the photo put straight by corners that are nearly right.

    Each picture draws anew, evenly from its ranges: tilt, blur, noise, then JPEG. The photo has twice the
    pixels of the picture along a side. Colours of ink and light are not simulated. Gradients pass; through
    JPEG as if it changed nothing.

    Args:
        tilt: how far each corner is moved across and down at most, as a part of the side; up to 0.25.
        blur: standard deviation of the Gaussian blur in pixels of the picture, least and most.
        noise: standard deviation of the Gaussian noise in 8-bit grey levels, least and most.
        quality: of the photo as a JPEG with 4:2:0, least and most.
        misplaced: standard deviation in pixels of the picture by which the corners given are wrong.
        seed: of the sequence of draws.
    """

    def __init__(
        self,
        tilt: float = 0.1,
        blur: tuple[float, float] = (0.3, 0.7),
        noise: tuple[float, float] = (1.0, 5.0),
        quality: tuple[int, int] = (70, 95),
        misplaced: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= tilt <= 0.25:
            raise InputError(f"tilt: {tilt} is no small part of a side", "use a number from 0 to 0.25")
        if not 0 <= misplaced < math.inf:
            raise InputError(f"misplaced: {misplaced} is no standard deviation", "use a number from 0")
        for name, (least, most) in {"blur": blur, "noise": noise, "quality": quality}.items():
            if not least <= most:
                raise InputError(f"{name}: {least} to {most} is no range", "give the least, then the most")
        _ = Blur(blur[0]), Noise(noise[0]), Jpeg(quality[0]), Jpeg(quality[1])  # they check their arguments
        self.tilt, self.blur, self.noise, self.quality = tilt, blur, noise, quality
        self.misplaced = misplaced
        self.generator = torch.Generator().manual_seed(seed)

    def photo(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return a photo of one picture on a black table, and where its corners are.

        Args:
            image: (1, C, H, W), C 1 or 3.

        Returns:
            (1, C, h, w), and the corners as `straightened` wants them.
        """
        check_images(image)
        size = torch.tensor([image.shape[3], image.shape[2]]) * SCALE
        large = bicubic(image, (int(size[1]), int(size[0]))).clamp(0, 1)
        margin = (size * self.tilt).ceil().long()
        table = F.pad(large, [0, 2 * int(margin[0]), 0, 2 * int(margin[1])])
        straight = _corners(*size.tolist())
        moved = self.tilt * size * (2 * torch.rand(4, 2, generator=self.generator) - 1)
        corners = straight + margin + moved
        photo: Tensor = perspective(table, straight.tolist(), corners.tolist())
        photo = Blur(SCALE * self._drawn(*self.blur))(photo)
        photo = Noise(self._drawn(*self.noise), int(self._drawn(0, 2**31)))(photo)
        return ForwardASL(Jpeg(round(self._drawn(*self.quality))))(photo), corners

    def forward(self, image: Tensor) -> Tensor:
        """Return photos of (B, C, H, W) that have been put straight, of the same size."""
        check_images(image)
        answers = []
        for one in image:
            photo, corners = self.photo(one[None])
            wrong = SCALE * self.misplaced * torch.randn(4, 2, generator=self.generator)
            answers.append(straightened(photo, corners + wrong, (one.shape[1], one.shape[2])))
        return torch.cat(answers)

    def _drawn(self, least: float, most: float) -> float:
        return least + (most - least) * float(torch.rand((), generator=self.generator))

    def extra_repr(self) -> str:
        """Return the settings."""
        ranges = f"tilt={self.tilt}, blur={self.blur}, noise={self.noise}, quality={self.quality}"
        return f"{ranges}, misplaced={self.misplaced}"


def straightened(photo: Tensor, corners: Any, size: tuple[int, int]) -> Tensor:
    """Return the picture that a photo shows, as if seen head on and cut out.

    Args:
        photo: (B, C, h, w) in [0, 1].
        corners: of the picture, (4, 2) as x and y in pixels, clockwise from its upper left; (0, 0) is the
            outer corner of the photo's first pixel. For what is hidden in the picture their error should be
            a fraction of its pixel.
        size: height and width of the picture as it was.

    Raises:
        InputError: the corners are not those of a convex shape, in this order.
    """
    check_images(photo)
    points = torch.as_tensor(corners, dtype=torch.float64)
    edges = points.roll(-1, 0) - points if points.shape == (4, 2) else torch.zeros(4, 2)
    following = edges.roll(-1, 0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    if not (torch.isfinite(points).all() and (turns > 0).all()):
        raise InputError(
            f"corners: {points.tolist()} are not four in a convex shape",
            "give x and y of upper left, upper right, lower right and lower left",
        )
    height, width = size
    wide, high = edges.norm(dim=1).reshape(2, 2).amax(0).tolist()
    scale = max(SCALE, math.ceil(wide / width), math.ceil(high / height))
    goal = _corners(scale * width, scale * height)
    # the answer of `perspective` has the size of its input
    missing = [max(0, scale * width - photo.shape[3]), max(0, scale * height - photo.shape[2])]
    room = F.pad(photo, [0, missing[0], 0, missing[1]])
    flat = perspective(room, points.tolist(), goal.tolist())[..., : scale * height, : scale * width]
    return bicubic(flat, size).clamp(0, 1)


def _corners(width: int, height: int) -> Tensor:
    return torch.tensor([[0, 0], [width, 0], [width, height], [0, height]])
