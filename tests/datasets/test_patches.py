from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelguard.datasets import (
    BicubicLoss,
    Downscale,
    GaussianNoise,
    ImageSet,
    Patches,
    Thumbnail,
    mixed_seed,
    to_uint8,
)
from modelguard.errors import InputError


@dataclass(frozen=True)
class Nothing:
    def __call__(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return clean, clean


def test_item_is_a_function_of_seed_and_index(photos: ImageSet) -> None:
    one, two = (Patches(photos, GaussianNoise(25), 16, 100, seed=3) for _ in range(2))
    later = two[40]
    for a, b in zip(one[40], later, strict=True):
        assert torch.equal(a, b)
    assert len(one) == 100


def test_other_index_or_seed_gives_another_patch(photos: ImageSet) -> None:
    first = Patches(photos, GaussianNoise(25), 16, 100, seed=0)
    other = Patches(photos, GaussianNoise(25), 16, 100, seed=1)
    assert not any(torch.equal(first[i][0], other[j][0]) for i in range(8) for j in range(8))
    assert not torch.equal(first[0][0], first[1][0])


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**70), 2**70), st.integers(1, 50), st.integers(0, 2**24), st.integers(0, 2**24))
def test_neighbouring_seeds_share_no_draw(seed: int, step: int, index: int, draw: int) -> None:
    assert 0 <= mixed_seed(seed, index) < 2**32  # what the generator keeps
    assert mixed_seed(seed, index) != mixed_seed(seed + step, draw)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 48))
def test_patches_lie_in_their_images(size: int) -> None:
    ramp = torch.arange(48 * 64).reshape(1, 48, 64).remainder(251).float() / 255
    patches = Patches(ImageSet.of([ramp]), Nothing(), size, 5)
    for index in range(5):
        patch = to_uint8(patches[index][0])
        assert patch.shape == (1, size, size)
        windows = to_uint8(ramp)[0].unfold(0, size, 1).unfold(1, size, 1).reshape(-1, size, size)
        turned = [torch.rot90(p, k) for p in (patch[0], patch[0].flip(1)) for k in range(4)]
        assert any(bool((windows == t).all((1, 2)).any()) for t in turned)


def test_too_small_images_are_refused(photos: ImageSet) -> None:
    with pytest.raises(InputError, match="48 px, patches need 49"):
        Patches(photos, Nothing(), 49, 1)


def test_noise_has_the_asked_deviation(photos: ImageSet) -> None:
    clean = torch.full((1, 200, 200), 0.5)
    noisy, target = GaussianNoise(25)(clean, torch.Generator().manual_seed(0))
    assert torch.equal(target, clean)
    assert 255 * (noisy - clean).std() == pytest.approx(25, rel=0.02)
    assert noisy.min() < 0.2  # unclipped around the mean


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downscale_cuts_to_a_multiple_and_rounds(scale: int, make_photo: Callable[..., Tensor]) -> None:
    clean = make_photo(0, 1, 50, 41)
    low, target = Downscale(scale)(clean, torch.Generator())
    height, width = 50 // scale, 41 // scale
    assert low.shape == (1, height, width)
    assert torch.equal(target, clean[:, : height * scale, : width * scale])
    torch.testing.assert_close(low * 255, (low * 255).round(), atol=1e-4, rtol=0)


def test_bicubic_loss_blurs_and_draws_every_scale(make_photo: Callable[..., Tensor]) -> None:
    clean = make_photo(0, 1, 50, 41)
    found = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        soft, target = BicubicLoss((2, 3, 4))(clean, generator)
        assert soft.shape == target.shape == (1, 48, 36)  # whatever the scale drawn, so that they batch
        found.add(round(float((soft - target).pow(2).mean()), 9))
    assert len(found) == 3


def test_thumbnails_are_squares_of_all_scales() -> None:
    ramp = torch.linspace(0, 1, 60).view(1, 1, 60).expand(3, 50, 60).contiguous()
    spans = []
    for seed in range(40):
        given, target = Thumbnail(20)(ramp, torch.Generator().manual_seed(seed))
        assert torch.equal(given, target)
        assert given.shape == (3, 20, 20)
        spans.append(float(given.max() - given.min()))
    assert min(spans) < 0.4  # 20 px of the ramp
    assert max(spans) > 0.7  # 50 px
