from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from modelguard.datasets import GaussianNoise, ImageSet
from modelguard.errors import InputError
from modelguard.metrics import quality


@dataclass(frozen=True)
class Shift:
    """Input and target differ by a constant."""

    by: float

    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return clean + self.by, clean


@dataclass(frozen=True)
class SpoiltFrame:
    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        spoilt = clean.clone()
        spoilt[:, :3] = spoilt[:, -3:] = 0.9
        spoilt[:, :, :3] = spoilt[:, :, -3:] = 0.9
        return spoilt, clean


FLAT = ImageSet.of([torch.full((1, 32, 32), 0.4), torch.full((1, 24, 40), 0.2)])


def test_psnr_of_a_known_error() -> None:
    measured = quality(nn.Identity(), FLAT, Shift(5 / 255))
    assert measured.psnr == pytest.approx(20 * math.log10(255 / 5), abs=1e-3)
    assert measured.images == 2
    assert math.isnan(measured.ssim)


def test_answers_are_clamped_and_rounded_first() -> None:
    assert quality(nn.Identity(), FLAT, Shift(0.4 / 255)).psnr == math.inf
    white = ImageSet.of([torch.ones(1, 16, 16)])
    assert quality(nn.Identity(), white, Shift(3.0)).psnr == math.inf


def test_border_is_left_out(photos: ImageSet) -> None:
    assert quality(nn.Identity(), photos, SpoiltFrame(), border=3).psnr == math.inf
    assert quality(nn.Identity(), photos, SpoiltFrame(), border=2).psnr < 40


def test_ssim(photos: ImageSet) -> None:
    assert quality(nn.Identity(), photos, Shift(0.0), with_ssim=True).ssim == pytest.approx(1, abs=1e-5)
    noisy = quality(nn.Identity(), photos, GaussianNoise(25), with_ssim=True)
    assert 0 < noisy.ssim < 0.9
    assert noisy.psnr == pytest.approx(20 * math.log10(255 / 25), abs=0.4)


def test_every_model_gets_the_same_noise_and_every_seed_another(photos: ImageSet) -> None:
    one, two = (quality(nn.Identity(), photos, GaussianNoise(25)) for _ in range(2))
    assert one.psnr == two.psnr
    seeds = [quality(nn.Identity(), photos, GaussianNoise(25), seed=s).psnr for s in (0, 1, 4096, 2**40 + 5)]
    assert len(set(seeds)) == 4


def test_measures_in_evaluation_mode_and_puts_it_back(tiny: nn.Module, photos: ImageSet) -> None:
    tiny.train()
    before = {k: v.clone() for k, v in tiny.state_dict().items()}
    quality(tiny, photos, GaussianNoise(25))
    assert all(m.training for m in tiny.modules())
    assert all(torch.equal(before[k], v) for k, v in tiny.state_dict().items())


def test_nothing_to_measure_on() -> None:
    with pytest.raises(InputError, match="images"):
        quality(nn.Identity(), [], GaussianNoise(25))
