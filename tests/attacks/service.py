"""What the tests of surrogates share: a service that is cheap to ask, and a thief who is soon done."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.attacks import Surrogate

BRIEF = Surrogate("cnet-4", steps=3, batch=2, patch=16, lr=1e-3, check_every=2)


class Smoother(nn.Module):
    """A host that is no network: a fixed blur, and maybe a mark that follows the picture."""

    def __init__(self, mark: float = 0.0) -> None:
        super().__init__()
        self.mark = mark
        self.register_buffer("kernel", torch.full((1, 1, 3, 3), 1 / 9))

    def forward(self, image: Tensor) -> Tensor:
        calm = F.conv2d(F.pad(image, (1, 1, 1, 1), "replicate"), self.kernel)  # type: ignore[arg-type]
        return calm + self.mark * torch.sin(6 * calm)


def psnr(one: Tensor, two: Tensor) -> float:
    """Return the PSNR of images in [0, 1], in dB."""
    return float(-10 * (one - two).square().mean().log10())
