from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelguard.datasets import ImageSet, Patches, RainStreaks, RibBands, Task
from modelguard.errors import InputError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("task", [RainStreaks(), RibBands()])
def test_a_picture_gets_its_degradation_from_the_generator(
    task: Task, make_photo: Callable[..., Tensor]
) -> None:
    clean = make_photo(0, 3, 60, 44)
    before = clean.clone()
    one, target = task(clean, seeded(5))
    assert torch.equal(target, before)
    assert torch.equal(clean, before)
    assert torch.equal(one, task(clean, seeded(5))[0])
    assert not torch.equal(one, task(clean, seeded(6))[0])
    assert (one - clean).mean() > 0.005


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([RainStreaks(), RibBands(), RainStreaks(density=1.0, brightness=1.0)]),
    st.sampled_from([1, 3]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 2**31),
)
def test_degraded_images_are_8_bit_and_only_brighter(
    task: Task, channels: int, height: int, width: int, seed: int
) -> None:
    clean = torch.rand(channels, height, width, generator=seeded(seed)).mul(255).round() / 255
    degraded, target = task(clean, seeded(seed))
    assert degraded.shape == target.shape == clean.shape
    torch.testing.assert_close(degraded * 255, (degraded * 255).round(), atol=1e-4, rtol=0)
    assert degraded.max() <= 1
    assert (degraded >= clean - 1e-6).all()


def test_more_drops_make_more_streaks() -> None:
    clean = torch.zeros(1, 100, 100)
    wet = [float((RainStreaks(density=d)(clean, seeded(1))[0] > 0).float().mean()) for d in (0.001, 0.01)]
    assert 0 < wet[0] < wet[1] < 1


@pytest.mark.parametrize("slant", [0.0, 40.0])
def test_streaks_have_the_asked_length_and_slant(slant: float) -> None:
    """The image of one shower turns into itself when moved along its streaks, less so when moved across."""
    rain = RainStreaks(density=0.002, length=(20, 20), angle=slant)
    clean = torch.zeros(1, 300, 300)
    streaks, _ = rain(clean, seeded(3))
    angle = math.radians(slant * (2 * torch.rand(2, generator=seeded(3))[0].item() - 1))

    def alike(away: float, direction: float) -> float:
        down, right = round(away * math.cos(direction)), round(away * math.sin(direction))
        return float((streaks * streaks.roll((down, right), (1, 2))).sum() / streaks.square().sum())

    along, across = alike(8, angle), alike(8, angle + math.pi / 2)
    assert along > 0.4 > 2 * across
    assert alike(26, angle) < 0.5 * along


def test_bands_are_spaced_as_asked_and_mirrored_at_the_spine() -> None:
    bands, _ = RibBands(spacing=(20, 20), contrast=(0.2, 0.2))(torch.zeros(1, 200, 200), seeded(2))
    spine = 200 * (0.4 + 0.2 * torch.rand(6, generator=seeded(2))[0].item())
    column = bands[0, :, round(spine)]
    rising = ((column[1:] > 0.1) & (column[:-1] <= 0.1)).nonzero()[:, 0]
    assert rising.diff().float().mean() == pytest.approx(20, abs=0.5)
    left, right = bands[0, :, round(spine) - 30], bands[0, :, round(spine) + 30]
    assert (left - right).abs().mean() < 0.02
    assert bands.max() <= 0.2 + 1 / 255


def test_white_stays_white_under_ribs() -> None:
    assert torch.equal(RibBands()(torch.ones(1, 50, 50), seeded(0))[0], torch.ones(1, 50, 50))


def test_they_train_in_patches(photos: ImageSet) -> None:
    for task in (RainStreaks(), RibBands()):
        degraded, clean = Patches(photos, task, 24, 10)[7]
        assert degraded.shape == clean.shape == (1, 24, 24)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: RainStreaks(density=0), "density"),
        (lambda: RainStreaks(length=(9, 3)), "length"),
        (lambda: RainStreaks(angle=91), "angle"),
        (lambda: RainStreaks(brightness=1.1), "brightness"),
        (lambda: RibBands(spacing=(2, 30)), "spacing"),
        (lambda: RibBands(thickness=1.0), "thickness"),
        (lambda: RibBands(contrast=(0.3, 0.1)), "contrast"),
    ],
)
def test_bad_settings_are_named(build: Callable[[], Task], name: str) -> None:
    with pytest.raises(InputError, match=name):
        build()
