from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelguard.distortions import ForwardASL, Jpeg, Quantise, Resize, SimulatedJpeg
from modelguard.errors import InputError

few = settings(max_examples=25, deadline=None)


@few
@given(st.integers(1, 2), st.sampled_from([1, 3]), st.integers(1, 20), st.integers(1, 20))
def test_forward_asl_is_the_distortion_with_the_gradient_of_nothing(
    batch: int, channels: int, height: int, width: int
) -> None:
    image = torch.rand(batch, channels, height, width, requires_grad=True)
    weight = torch.randn(image.shape)
    for distortion in (Quantise(), Jpeg(50), Resize(0.5)):
        answer = ForwardASL(distortion)(image)
        torch.testing.assert_close(answer, distortion(image), atol=1e-6, rtol=0)
        (gradient,) = torch.autograd.grad((answer * weight).sum(), image)
        assert torch.equal(gradient, weight)


@few
@given(
    st.sampled_from([1, 3]),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 100),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
)
def test_simulated_jpeg_keeps_shape_and_range(
    channels: int, height: int, width: int, quality: int, subsampling: str
) -> None:
    image = torch.rand(2, channels, height, width)
    answer = SimulatedJpeg(quality, subsampling)(image)  # type: ignore[arg-type]
    assert answer.shape == image.shape
    assert answer.min() >= 0
    assert answer.max() <= 1


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [30, 50, 90])
def test_simulated_jpeg_is_near_the_real_one(
    quality: int, subsampling: str, make_photo: Callable[..., Tensor]
) -> None:
    image = make_photo(4, 3, 96, 80)[None]
    real = Jpeg(quality, subsampling)(image)  # type: ignore[arg-type]
    simulated = SimulatedJpeg(quality, subsampling)(image)  # type: ignore[arg-type]
    damage, difference = (real - image).pow(2).mean(), (simulated - real).pow(2).mean()
    assert difference < 0.5 * damage


@pytest.mark.parametrize("channels", [1, 3])
def test_simulated_jpeg_passes_finite_gradients(channels: int, make_photo: Callable[..., Tensor]) -> None:
    image = make_photo(5, channels, 32, 40)[None].requires_grad_()
    (SimulatedJpeg(50)(image) - 0.3).pow(2).sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().max() > 0


def test_a_flat_picture_survives_any_quality() -> None:
    flat = torch.full((1, 3, 16, 16), 128 / 255)
    for quality in (1, 50, 100):
        torch.testing.assert_close(SimulatedJpeg(quality)(flat), flat, atol=1.01 / 255, rtol=0)


@pytest.mark.parametrize(
    "build",
    [lambda: SimulatedJpeg(0), lambda: SimulatedJpeg(50, "4:1:1")],  # type: ignore[arg-type]
)
def test_bad_settings_are_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match=r"quality|subsampling"):
        build()


def test_two_channels_are_refused() -> None:
    with pytest.raises(InputError, match="not 2"):
        SimulatedJpeg(50)(torch.rand(1, 2, 8, 8))


def test_simulated_jpeg_is_the_same_in_bf16_training() -> None:
    image, distortion = torch.rand(1, 3, 32, 32), SimulatedJpeg(50)
    with torch.autocast("cpu", torch.bfloat16):
        trained = distortion(image)
    assert torch.equal(trained, distortion(image))


def test_soft_rounding_is_near_rounding_and_has_a_gradient() -> None:
    from modelguard.distortions.simulation import soft_round

    x = torch.linspace(-3, 3, 601, requires_grad=True)
    near_a_whole = (x - x.round()).abs() < 0.35
    for rounding in ("cubic", "fourier"):
        rounded = soft_round(x, rounding)  # type: ignore[arg-type]
        assert (rounded - x.round())[near_a_whole].abs().max() < 0.1
        (gradient,) = torch.autograd.grad(rounded.sum(), x)
        assert gradient.abs().max() > 0.5
    with pytest.raises(InputError, match="rounding: 'nearest'"):
        SimulatedJpeg(50, rounding="nearest")  # type: ignore[arg-type]


def test_jpeg_with_fourier_rounding_is_near_the_real_one(make_photo: Callable[..., Tensor]) -> None:
    image = make_photo(4, 3, 48, 40)[None]
    real, simulated = Jpeg(50)(image), SimulatedJpeg(50, rounding="fourier")(image)
    assert (simulated - real).pow(2).mean() < 0.5 * (real - image).pow(2).mean()
