from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from modelguard.distortions import Blur, Grey, Jpeg, Median, Noise, Poisson, Quantise, Resize
from modelguard.errors import InputError

few = settings(max_examples=25, deadline=None)
sizes = st.tuples(st.integers(1, 2), st.sampled_from([1, 3]), st.integers(1, 20), st.integers(1, 20))
images = sizes.flatmap(
    lambda size: arrays.arrays(np.float32, size, elements=st.floats(0, 1, width=32), fill=st.just(0.25))
).map(torch.from_numpy)
distortions = st.one_of(
    st.builds(Quantise),
    st.builds(Jpeg, st.integers(1, 100), st.sampled_from(["4:4:4", "4:2:2", "4:2:0"])),
    st.builds(Resize, st.floats(0.01, 1)),
    st.builds(Noise, st.floats(0, 100), st.integers(0, 9)),
    st.builds(Poisson, st.integers(0, 9)),
    st.builds(Blur, st.floats(0.1, 8)),
    st.builds(Median, st.sampled_from([1, 3, 5])),
)


def on_grid(image: Tensor) -> bool:
    return bool(((image * 255) - (image * 255).round()).abs().max() < 1e-3)


def error(distortion: nn.Module, image: Tensor) -> float:
    return float((distortion(image) - image).pow(2).mean())


@few
@given(images, distortions)
def test_shape_type_and_range_stay(image: Tensor, distortion: nn.Module) -> None:
    before = image.clone()
    answer = distortion(image)
    assert answer.shape == image.shape
    assert answer.dtype == image.dtype
    assert answer.min() >= 0
    assert answer.max() <= 1
    assert torch.equal(image, before)


@few
@given(
    st.floats(0, 1, width=32),
    st.one_of(
        st.builds(Jpeg, st.integers(80, 100)),
        st.builds(Resize, st.floats(0.01, 1)),
        st.builds(Blur, st.floats(0.1, 8)),
    ),
)
def test_a_flat_grey_image_stays_flat(value: float, distortion: nn.Module) -> None:
    image = torch.full((1, 1, 9, 14), value)
    assert (distortion(image) - value).abs().max() <= 1.01 / 255


@few
@given(images, st.sampled_from([Quantise(), Jpeg(100), Jpeg(20)]))
def test_what_comes_as_a_file_lies_on_the_8_bit_grid(image: Tensor, distortion: nn.Module) -> None:
    assert on_grid(distortion(image))


@few
@given(images)
def test_quantise_takes_the_nearest_level_and_is_idempotent(image: Tensor) -> None:
    once = Quantise()(image)
    assert (once - image).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(Quantise()(once), once)


def test_quantise_clamps() -> None:
    assert Quantise()(torch.tensor([-0.5, 1.5]).view(1, 1, 1, 2)).flatten().tolist() == [0, 1]


@few
@given(images)
def test_resize_by_one_only_rounds(image: Tensor) -> None:
    torch.testing.assert_close(Resize(1.0)(image), Quantise()(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "milder_first",
    [
        [Jpeg(95), Jpeg(60), Jpeg(10)],
        [Resize(0.9), Resize(0.5), Resize(0.2)],
        [Noise(1), Noise(5), Noise(25)],
        [Blur(0.5), Blur(1.0), Blur(3.0)],
    ],
    ids=["jpeg", "resize", "noise", "blur"],
)
def test_stronger_settings_change_more(
    milder_first: list[nn.Module], channels: int, make_photo: Callable[..., Tensor]
) -> None:
    image = make_photo(1, channels)[None]
    errors = [error(distortion, image) for distortion in milder_first]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_subsampling_blurs_colour_only(make_photo: Callable[..., Tensor]) -> None:
    image = make_photo(2, 3)[None]
    errors = [error(Jpeg(95, kind), image) for kind in ("4:4:4", "4:2:2", "4:2:0")]
    assert errors[0] < errors[1] < errors[2]
    grey = make_photo(2, 1)[None]
    assert torch.equal(Jpeg(50, "4:4:4")(grey), Jpeg(50, "4:2:0")(grey))


def test_batches_are_distorted_one_by_one(make_photo: Callable[..., Tensor]) -> None:
    batch = torch.stack([make_photo(seed, 3) for seed in range(3)])
    for distortion in (Quantise(), Jpeg(70), Resize(0.4), Blur(1.5)):
        alone = torch.cat([distortion(image[None]) for image in batch])
        torch.testing.assert_close(distortion(batch), alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [2.0, 10.0])
def test_noise_is_measured_in_grey_levels(sigma: float) -> None:
    image = torch.full((1, 1, 200, 200), 0.5)
    noise = 255 * (Noise(sigma)(image) - image)
    assert float(noise.std()) == pytest.approx(sigma, rel=0.02)
    assert abs(float(noise.mean())) < sigma / 30


def test_noise_is_a_sequence_fixed_by_its_seed() -> None:
    image = torch.full((1, 1, 8, 8), 0.5)
    one, same, other = Noise(5, seed=1), Noise(5, seed=1), Noise(5, seed=2)
    first, second = one(image), one(image)
    assert not torch.equal(first, second)
    assert torch.equal(same(image), first)
    assert torch.equal(copy.deepcopy(same)(image), second)
    assert not torch.equal(other(image), first)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_spreads_a_point_by_sigma_pixels(sigma: float) -> None:
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = Blur(sigma)(point)[0, 0]
    offset = torch.arange(41.0) - 20
    assert float(spread.sum()) == pytest.approx(1, abs=1e-4)
    for weights in (spread.sum(0), spread.sum(1)):
        assert float((weights * offset**2).sum()) == pytest.approx(sigma**2, rel=0.03)


def test_noise_and_blur_pass_gradients() -> None:
    image = torch.full((1, 1, 9, 9), 0.5, requires_grad=True)
    nn.Sequential(Noise(3), Blur(1.0))(image).sum().backward()
    assert image.grad is not None
    assert float(image.grad.sum()) == pytest.approx(81, rel=1e-3)


def test_settings_show() -> None:
    chain = repr(nn.Sequential(Jpeg(70), Resize(0.5), Noise(2.0), Blur(1.5)))
    for text in ("quality=70, subsampling=4:2:0", "scale=0.5", "sigma=2.0", "sigma=1.5"):
        assert text in chain


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: Jpeg(0), "quality"),
        (lambda: Jpeg(101), "quality"),
        (lambda: Jpeg(75.5), "quality"),  # type: ignore[arg-type]
        (lambda: Jpeg(75, "4:1:1"), "subsampling"),  # type: ignore[arg-type]
        (lambda: Resize(0), "scale"),
        (lambda: Resize(1.5), "scale"),
        (lambda: Noise(-1), "sigma"),
        (lambda: Noise(float("nan")), "sigma"),
        (lambda: Blur(0), "sigma"),
        (lambda: Median(4), "size"),
    ],
)
def test_bad_settings_are_named(build: Callable[[], nn.Module], name: str) -> None:
    with pytest.raises(InputError, match=name):
        build()


@pytest.mark.parametrize("distortion", [Quantise(), Jpeg(75), Resize(0.5), Noise(1), Blur(1), Median(3)])
def test_other_than_a_batch_of_float_images_is_refused(distortion: nn.Module) -> None:
    for bad in (torch.rand(3, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.rand(1, 1, 0, 8)):
        with pytest.raises(InputError, match="image"):
            distortion(bad)


def test_grey_keeps_luma_alone_and_passes_gradients() -> None:
    image = torch.rand(2, 3, 5, 6, requires_grad=True)
    grey = Grey()(image)
    assert grey.shape == image.shape
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(Grey()(grey), grey)
    grey[:, 0].sum().backward()
    assert image.grad is not None
    torch.testing.assert_close(image.grad[0, :, 0, 0], torch.tensor([0.299, 0.587, 0.114]))
    with pytest.raises(InputError, match="RGB"):
        Grey()(torch.rand(1, 1, 4, 4))


def test_jpeg_has_no_alpha() -> None:
    with pytest.raises(InputError, match="not 4"):
        Jpeg(75)(torch.rand(1, 4, 8, 8))


def test_a_median_takes_single_dots_away_and_leaves_edges() -> None:
    image = torch.zeros(1, 1, 12, 12)
    image[..., 6:] = 1
    dotted = image.clone()
    dotted[..., 4, 2], dotted[..., 7, 9] = 1, 0
    assert torch.equal(Median(3)(dotted), image)
    assert torch.equal(Median(1)(dotted), dotted)


def test_a_median_is_that_of_its_window() -> None:
    image = torch.rand(2, 3, 7, 9)
    assert Median(5)(image)[1, 2, 3, 4] == image[1, 2, 1:6, 2:7].median()


def test_shot_noise_grows_with_the_light_and_is_drawn_anew() -> None:
    levels = torch.tensor([0.0, 0.1, 0.4]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    noise = Poisson(3)
    first, second = noise(levels), noise(levels)
    assert not torch.equal(first, second)
    assert torch.equal(first, Poisson(3)(levels))
    torch.testing.assert_close(first.mean((0, 2, 3)), levels[0, :, 0, 0], atol=0.005, rtol=0)
    spread = (255 * levels[0, :, 0, 0]).sqrt() / 255
    torch.testing.assert_close(first.std((0, 2, 3)), spread, atol=0.002, rtol=0)
