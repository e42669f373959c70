"""Distortions of an answer, as modules on (B, C, H, W) in [0, 1]; the answer has the same shape and range.

`Noise`, `Blur`, `Median` and `Grey` pass gradients; the others round to 8 bits on the way and pass none. A
chain is an `nn.Sequential`.
"""

from __future__ import annotations

import io
import math
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from modelguard.datasets import to_uint8
from modelguard.errors import InputError
from modelguard.networks import bicubic

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


def check_images(image: Tensor) -> None:
    """Raise InputError unless `image` is a batch of float images."""
    if image.ndim != 4 or not image.is_floating_point() or not image.numel():
        raise InputError(
            f"image: {tuple(image.shape)} of {image.dtype} is not a batch of images",
            "give a float tensor (B, C, H, W) in [0, 1]",
        )


class Quantise(nn.Module):
    """Clamping to [0, 1] and rounding to 8 bits."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the nearest 8-bit image, as floats."""
        check_images(image)
        return to_uint8(image).to(image.dtype) / 255


class Jpeg(nn.Module):
    """JPEG compression by the codec in Pillow, after rounding to 8 bits.

    Args:
        quality: 1 (worst) to 100, as libjpeg counts.
        subsampling: of the chroma; grey images have none.
    """

    def __init__(self, quality: int, subsampling: Subsampling = "4:2:0") -> None:
        super().__init__()
        if not (isinstance(quality, int) and 1 <= quality <= 100):
            raise InputError(f"quality: {quality!r} is no JPEG quality", "use a whole number from 1 to 100")
        if subsampling not in get_args(Subsampling):
            raise InputError(
                f"subsampling: {subsampling!r} is not known", f"use one of {', '.join(get_args(Subsampling))}"
            )
        self.quality, self.subsampling = quality, subsampling

    def forward(self, image: Tensor) -> Tensor:
        """Return the image as decoded; raises InputError unless C is 1 or 3."""
        check_images(image)
        channels = image.shape[1]
        if channels not in (1, 3):
            raise InputError(f"image: JPEG holds 1 or 3 channels, not {channels}", "give grey or RGB")
        decoded = torch.stack([self._through(one) for one in to_uint8(image).cpu()])
        return decoded.to(image.device, image.dtype) / 255

    def _through(self, image: Tensor) -> Tensor:
        array = image.permute(1, 2, 0).numpy()
        picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=self.quality, subsampling=self.subsampling)
        back = np.array(Image.open(buffer))
        return torch.from_numpy(back.reshape(array.shape)).permute(2, 0, 1)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"quality={self.quality}, subsampling={self.subsampling}"


class Grey(nn.Module):
    """BT.601 luma in all three channels: what is left of a mark in a grey copy; passes gradients."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the grey image; raises InputError unless C is 3."""
        check_images(image)
        if image.shape[1] != 3:
            raise InputError(f"image: {image.shape[1]} channels are no RGB", "give (B, 3, H, W)")
        weights = image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (image * weights).sum(1, keepdim=True).expand_as(image)


class Resize(nn.Module):
    """Down-sizing, rounding to 8 bits, and back to the original size; anti-aliased bicubic both ways.

    Args:
        scale: sides of the small image as a part of the original's, in (0, 1]; at least 1 px stays.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not 0 < scale <= 1:
            raise InputError(f"scale: {scale} does not shrink an image", "use a number above 0, up to 1")
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """Return the image as it comes back."""
        check_images(image)
        height, width = image.shape[-2:]
        size = max(1, round(height * self.scale)), max(1, round(width * self.scale))
        small = to_uint8(bicubic(image, size))
        return bicubic(small / 255, (height, width)).clamp(0, 1).to(image.dtype)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"scale={self.scale}"


class Noise(nn.Module):
    """Additive white Gaussian noise, then clamping to [0, 1]; each call draws anew.

    Args:
        sigma: standard deviation in 8-bit grey levels.
        seed: of the sequence of draws, which is the same on every device.
    """

    def __init__(self, sigma: float, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= sigma < math.inf:
            raise InputError(f"sigma: {sigma} is no standard deviation", "use a number from 0")
        self.sigma = sigma
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, image: Tensor) -> Tensor:
        """Return the noisy image."""
        check_images(image)
        noise = torch.randn(image.shape, generator=self.generator).to(image.device, image.dtype)
        return (image + noise * (self.sigma / 255)).clamp(0, 1)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"sigma={self.sigma}"


class Poisson(nn.Module):
    """Shot noise: each 8-bit grey level is the mean of a Poisson draw; then clamping to [0, 1].

    Args:
        seed: of the sequence of draws, which is the same on every device; each call draws anew.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, image: Tensor) -> Tensor:
        """Return the noisy image; passes no gradients."""
        check_images(image)
        means = 255 * image.detach().float().clamp(0, 1).cpu()
        noisy = torch.poisson(means, generator=self.generator) / 255
        return noisy.clamp(0, 1).to(image.device, image.dtype)


class Blur(nn.Module):
    """Gaussian blur; the image is mirrored at its borders.

    Args:
        sigma: standard deviation in pixels.
        kernel: side of the kernel, odd; papers on watermarks use 7 for a sigma of 2. By default it reaches 4
            sigma. Either way it ends where the mirrored image does.
    """

    def __init__(self, sigma: float, kernel: int | None = None) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise InputError(f"sigma: {sigma} is no width in pixels", "use a number above 0")
        if kernel is not None and (kernel < 1 or kernel % 2 == 0):
            raise InputError(f"kernel: {kernel} px have no middle", "use an odd number from 1")
        self.sigma, self.kernel = sigma, kernel

    def forward(self, image: Tensor) -> Tensor:
        """Return the blurred image."""
        check_images(image)
        height, width = image.shape[-2:]
        reach = math.ceil(4 * self.sigma) if self.kernel is None else self.kernel // 2
        kernel = [2 * min(reach, side - 1) + 1 for side in (width, height)]
        blurred: Tensor = gaussian_blur(image, kernel, [self.sigma, self.sigma])
        return blurred.clamp(0, 1)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"sigma={self.sigma}, kernel={self.kernel}"


class Median(nn.Module):
    """Median filter, each channel for itself; the image's outermost pixels are repeated beyond its borders.

    Args:
        size: side of the window in pixels, odd.
    """

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        if not (isinstance(size, int) and size >= 1 and size % 2):
            raise InputError(f"size: {size!r} px have no middle", "use an odd whole number")
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """Return the filtered image."""
        check_images(image)
        reach = self.size // 2
        wide = F.pad(image, (reach, reach, reach, reach), mode="replicate")
        windows = wide.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(4)
        return windows.median(dim=-1).values.clamp(0, 1)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"size={self.size}"
