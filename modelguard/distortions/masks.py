"""Distortions that take pixels away: cropout, dropout and crop, on (B, C, H, W) in [0, 1].

The same names mean different things in published code; here each meaning has its own class. Draws come from
PyTorch's global CPU generator, so `torch.manual_seed` repeats them; every image of a batch gets its own. All
pass gradients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modelguard.distortions.channel import check_images
from modelguard.errors import InputError


def _check_part(name: str, value: float) -> float:
    if not 0 < value <= 1:
        raise InputError(f"{name}: {value} is no part of an image", "use a number above 0, up to 1")
    return value


def _window(image: Tensor, area: float) -> tuple[int, int, int, int]:
    """Draw the top, left, height and width of a rectangle with the image's aspect and a part of its area."""
    sides = image.shape[-2:]
    height, width = (max(1, round(side * math.sqrt(area))) for side in sides)
    top = int(torch.randint(sides[0] - height + 1, ()))
    left = int(torch.randint(sides[1] - width + 1, ()))
    return top, left, height, width


def _window_masks(image: Tensor, area: float) -> Tensor:
    mask = torch.zeros(len(image), 1, *image.shape[-2:], dtype=torch.bool)
    for one in mask:
        top, left, height, width = _window(image, area)
        one[:, top : top + height, left : left + width] = True
    return mask.to(image.device)


class AgainstCover(nn.Module):
    """Base of distortions that put the unmarked cover where they take the marked image away."""

    def forward(self, image: Tensor, cover: Tensor) -> Tensor:
        """Return the distorted image.

        Args:
            image: the marked images.
            cover: what they were before; of the same shape.
        """
        check_images(image)
        if image.shape != cover.shape:
            raise InputError(
                f"cover: shape {tuple(cover.shape)} is not that of the image, {tuple(image.shape)}",
                "give the cover that the image was marked from",
            )
        return torch.where(self._keep(image), image, cover)

    def _keep(self, image: Tensor) -> Tensor:
        raise NotImplementedError


class Cropout(AgainstCover):
    """A rectangle of the marked image stays; around it the cover comes back.

    Args:
        area: of the rectangle, as a part of the image's, in (0, 1].
    """

    def __init__(self, area: float) -> None:
        super().__init__()
        self.area = _check_part("area", area)

    def _keep(self, image: Tensor) -> Tensor:
        return _window_masks(image, self.area)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"area={self.area}"


class Dropout(AgainstCover):
    """Each pixel, all channels together, stays marked with probability `keep`, else the cover's comes back.

    Args:
        keep: as in HiDDeN and MBRS; some code gives the part that is lost under the same name.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = _check_part("keep", keep)

    def _keep(self, image: Tensor) -> Tensor:
        return (torch.rand(len(image), 1, *image.shape[-2:]) < self.keep).to(image.device)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"keep={self.keep}"


class CropMasked(nn.Module):
    """A rectangle stays where it is and all else turns mid-grey: the crop of MBRS, CIN and DBMARK.

    Args:
        area: of the rectangle, as a part of the image's, in (0, 1]; .035 keeps 24 x 24 of 128 x 128 pixels.
    """

    def __init__(self, area: float) -> None:
        super().__init__()
        self.area = _check_part("area", area)

    def forward(self, image: Tensor) -> Tensor:
        """Return images of the same size."""
        check_images(image)
        return torch.where(_window_masks(image, self.area), image, 0.5)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"area={self.area}"


class Crop(nn.Module):
    """A rectangle is cut out and the answer is smaller: the crop of HiDDeN, and of a photo editor.

    Args:
        area: of the rectangle, as a part of the image's, in (0, 1].
    """

    def __init__(self, area: float) -> None:
        super().__init__()
        self.area = _check_part("area", area)

    def forward(self, image: Tensor) -> Tensor:
        """Return the cut-outs (B, C, h, w)."""
        check_images(image)
        cuts = []
        for one in image:
            top, left, height, width = _window(image, self.area)
            cuts.append(one[:, top : top + height, left : left + width])
        return torch.stack(cuts)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"area={self.area}"
