from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelguard import photos
from modelguard.distortions import PrintAndPhoto, level_of, straightened
from modelguard.errors import InputError


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """(1, 3, 80, 96)."""
    return photos.load(3)[1][None, :, 64:144, 64:160]


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * torch.log10((one - other).square().mean()))


def sharp(tilt: float = 0.1, misplaced: float = 0.0, seed: int = 0) -> PrintAndPhoto:
    return PrintAndPhoto(tilt, (0.01, 0.01), (0.0, 0.0), (100, 100), misplaced, seed)


@settings(max_examples=12, deadline=None)
@given(
    st.floats(0, 0.25), st.sampled_from([1, 3]), st.integers(9, 40), st.integers(9, 40), st.integers(0, 99)
)
def test_shape_type_and_range_stay(tilt: float, channels: int, height: int, width: int, seed: int) -> None:
    image = torch.rand(2, channels, height, width)
    before = image.clone()
    answer = PrintAndPhoto(tilt, seed=seed)(image)
    assert (answer.shape, answer.dtype) == (image.shape, image.dtype)
    assert answer.min() >= 0
    assert answer.max() <= 1
    assert torch.equal(image, before)


def test_a_photo_shows_the_picture_where_it_says(picture: Tensor) -> None:
    photo, corners = sharp().photo(picture)
    assert photo.shape == (1, 3, 160 + 2 * 16, 192 + 2 * 20)
    assert (corners >= 0).all()
    assert (corners <= torch.tensor([232, 192])).all()
    assert photo[0, :, 0, 0].max() < 0.02  # the table
    assert psnr(straightened(photo, corners, (80, 96)), picture) > 30
    assert psnr(straightened(photo, corners + torch.tensor([4, 0]), (80, 96)), picture) < 25


def test_a_photo_is_put_straight_from_whatever_size(picture: Tensor) -> None:
    for factor in (1, 5):
        photo = picture.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        corners = [[0, 0], [96 * factor, 0], [96 * factor, 80 * factor], [0, 80 * factor]]
        assert psnr(straightened(photo, corners, (80, 96)), picture) > 30
    turned = picture.rot90(1, (2, 3))  # upper left is now lower left
    assert psnr(straightened(turned, [[0, 96], [0, 0], [80, 0], [80, 96]], (80, 96)), picture) > 30


def test_every_part_of_the_way_costs_something_and_is_seeded(picture: Tensor) -> None:
    clear = psnr(sharp()(picture), picture)
    assert psnr(sharp(misplaced=1.0)(picture), picture) < clear - 2
    for name, value in {"blur": (1.5, 1.5), "noise": (20.0, 20.0), "quality": (10, 10)}.items():
        settings = {"blur": (0.01, 0.01), "noise": (0.0, 0.0), "quality": (100, 100), name: value}
        assert psnr(PrintAndPhoto(misplaced=0.0, **settings)(picture), picture) < clear - 2  # type: ignore[arg-type]
    one, other = PrintAndPhoto(seed=3), PrintAndPhoto(seed=3)
    first = one(picture)
    assert torch.equal(first, other(picture))
    assert not torch.equal(first, one(picture))
    assert not torch.equal(first, PrintAndPhoto(seed=4)(picture))


def test_gradients_pass_and_it_has_a_level(picture: Tensor) -> None:
    image = picture.clone().requires_grad_()
    PrintAndPhoto()(image).square().sum().backward()
    assert image.grad is not None
    assert (image.grad.abs().amax(1) > 0).float().mean() > 0.95
    assert level_of(PrintAndPhoto(noise=(2, 4), quality=(40, 80))).tolist() == pytest.approx(
        [0.3, 0, 41 / 61]
    )


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"tilt": 0.3}, "tilt"),
        ({"misplaced": -1.0}, "misplaced"),
        ({"blur": (0.7, 0.3)}, "blur: 0.7 to 0.3"),
        ({"blur": (0.0, 1.0)}, "sigma"),
        ({"noise": (float("nan"), 1.0)}, "noise"),
        ({"quality": (50, 101)}, "quality"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], part: str) -> None:
    with pytest.raises(InputError, match=part):
        PrintAndPhoto(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "corners",
    [
        [[0, 0], [9, 0], [9, 9]],
        [[0, 0], [0, 9], [9, 9], [9, 0]],  # the other way round
        [[0, 0], [9, 9], [9, 0], [0, 9]],  # crossed
        [[0, 0], [9, 0], [float("nan"), 9], [0, 9]],
    ],
)
def test_corners_that_make_no_picture_are_refused(corners: list[list[float]]) -> None:
    with pytest.raises(InputError, match="corners"):
        straightened(torch.rand(1, 3, 20, 20), corners, (8, 8))
