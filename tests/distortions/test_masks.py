from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelguard.distortions import AgainstCover, Blur, Crop, CropMasked, Cropout, Dropout
from modelguard.errors import InputError

few = settings(max_examples=25, deadline=None)
parts = st.floats(0.01, 1)
sizes = st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40))


def marked_and_cover(size: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    return torch.full(size, 0.9), torch.full(size, 0.1)


@few
@given(sizes, parts, st.sampled_from([Cropout, Dropout]))
def test_each_pixel_is_whole_from_the_image_or_from_the_cover(
    size: tuple[int, int, int, int], part: float, kind: type[AgainstCover]
) -> None:
    image, cover = marked_and_cover(size)
    answer = kind(part)(image, cover)  # type: ignore[call-arg]
    assert answer.shape == image.shape
    assert set(answer.unique().tolist()) <= {image.max().item(), cover.max().item()}
    assert (answer == answer[:, :1]).all()


@few
@given(sizes, parts)
def test_cropout_keeps_one_rectangle_of_the_asked_area(size: tuple[int, int, int, int], area: float) -> None:
    image, cover = marked_and_cover(size)
    height, width = (max(1, round(side * area**0.5)) for side in size[2:])
    for one in Cropout(area)(image, cover)[:, 0] == image[0, 0]:
        rows, columns = one.any(1), one.any(0)
        assert (int(rows.sum()), int(columns.sum()), int(one.sum())) == (height, width, height * width)


@few
@given(sizes, parts)
def test_both_crops_keep_the_same_area_one_in_place_and_one_cut_out(
    size: tuple[int, int, int, int], area: float
) -> None:
    image = torch.rand(size)
    height, width = (max(1, round(side * area**0.5)) for side in size[2:])
    torch.manual_seed(3)
    masked = CropMasked(area)(image)
    torch.manual_seed(3)
    cut = Crop(area)(image)
    assert masked.shape == image.shape
    assert cut.shape == (*size[:2], height, width)
    for whole, piece, original in zip(masked, cut, image, strict=True):
        kept = (whole != 0.5).any(0)
        rows, columns = kept.any(1).nonzero(), kept.any(0).nonzero()
        corner = original[:, rows[0] : rows[0] + height, columns[0] : columns[0] + width]
        assert torch.equal(corner, piece)
        assert (whole[:, ~kept] == 0.5).all()


def test_the_papers_crop_is_24_px_of_128() -> None:
    assert Crop(0.035)(torch.rand(1, 3, 128, 128)).shape[-2:] == (24, 24)


def test_dropout_keeps_the_asked_part() -> None:
    image, cover = marked_and_cover((1, 1, 200, 200))
    assert float((Dropout(0.3)(image, cover) == image).float().mean()) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("distortion", [CropMasked(0.3), Crop(0.3), Cropout(0.3), Dropout(0.3)])
def test_each_image_gets_its_own_draw_which_the_seed_repeats(distortion: nn.Module) -> None:
    # a picture of coordinates, so that a cut-out shows where it was
    ramp = torch.linspace(0, 1, 64 * 64).view(1, 1, 64, 64).repeat(4, 1, 1, 1)
    given = (ramp, 1 - ramp) if isinstance(distortion, AgainstCover) else (ramp,)
    torch.manual_seed(5)
    first, second = distortion(*given), distortion(*given)
    torch.manual_seed(5)
    assert torch.equal(distortion(*given), first)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("distortion", [CropMasked(0.3), Crop(0.3), Cropout(0.3), Dropout(0.3)])
def test_gradients_reach_what_was_kept_only(distortion: nn.Module) -> None:
    image = torch.rand(1, 3, 40, 40, requires_grad=True)
    cover = torch.rand(1, 3, 40, 40)
    answer = distortion(image, cover) if isinstance(distortion, AgainstCover) else distortion(image)
    answer.sum().backward()
    assert image.grad is not None
    assert set(image.grad.unique().tolist()) == {0.0, 1.0}
    assert float(image.grad.mean()) == pytest.approx(0.3, abs=0.05)


def test_a_short_kernel_cuts_the_blur_off() -> None:
    point = torch.zeros(1, 1, 31, 31)
    point[..., 15, 15] = 1
    assert int((Blur(2.0, kernel=7)(point) > 0).sum()) == 49
    assert int((Blur(2.0)(point) > 0).sum()) > 49


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: Cropout(0), "area"),
        (lambda: CropMasked(1.1), "area"),
        (lambda: Crop(-1), "area"),
        (lambda: Dropout(float("nan")), "keep"),
        (lambda: Blur(1, kernel=4), "kernel"),
    ],
)
def test_bad_parts_are_named(build: Callable[[], nn.Module], name: str) -> None:
    with pytest.raises(InputError, match=name):
        build()


def test_a_cover_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="cover"):
        Cropout(0.5)(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9))
