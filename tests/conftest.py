"""Fixtures shared by all rooms: images that look natural, and nets small enough to train in a second."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from modelguard.datasets import ImageSet
from modelguard.evidence import Owner
from modelguard.networks import DnCNN
from modelguard.protecting import Protected, protect
from modelguard.schemes import TriggerKey

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores, and so one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Draw a test's secrets from its name: with fresh keys, a bound on a mark fails for some of them."""
    secrets.token_bytes = random.Random(item.nodeid).randbytes  # type: ignore[assignment]


def smooth_field(seed: int, channels: int, height: int, width: int) -> Tensor:
    """Return a random image with a spectrum like that of photographs: float (C, H, W) in [0, 1]."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    fall = 1 / (np.hypot(rows, columns) + 1 / max(height, width)) ** 1.5
    noise = np.random.default_rng(seed).standard_normal((channels, height, width))
    field = np.fft.ifft2(np.fft.fft2(noise) * fall).real
    low, high = field.min((1, 2), keepdims=True), field.max((1, 2), keepdims=True)
    return torch.from_numpy((field - low) / (high - low)).float()


@pytest.fixture(scope="session")
def make_photo() -> Callable[..., Tensor]:
    """A function (seed=0, channels=1, height=64, width=48) -> float image (C, H, W) in [0, 1]."""

    def make(seed: int = 0, channels: int = 1, height: int = 64, width: int = 48) -> Tensor:
        return smooth_field(seed, channels, height, width)

    return make


@pytest.fixture(scope="session")
def photos() -> ImageSet:
    """Six grey images of 64 x 48."""
    return ImageSet.of([smooth_field(seed, 1, 64, 48) for seed in range(6)])


@pytest.fixture(scope="session")
def colour_photos() -> ImageSet:
    """Three RGB images of 64 x 48."""
    return ImageSet.of([smooth_field(seed, 3, 64, 48) for seed in range(3)])


@pytest.fixture
def tiny() -> nn.Module:
    """A fresh grey denoiser of four layers with batch norm, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DnCNN(depth=4, width=8)


@pytest.fixture(scope="session")
def owner() -> Owner:
    """An owner who was never saved."""
    return Owner("Acme Imaging", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture(scope="session")
def quick() -> TriggerKey:
    """A scheme that marks a tiny net in a second, three queries of 128 bits, at the cost of its quality."""
    return TriggerKey(
        leaves=6, per_query=2, steps=200, batch=2, patch=16, lr=1e-2, amplitude=0.1, fidelity=1.0
    )


@pytest.fixture(scope="session")
def unmarked() -> nn.Module:
    """A grey denoiser of three layers without batch norm, in training mode and frozen, to be left so."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DnCNN(depth=3, width=24, batch_norm=False).train().requires_grad_(False)


@pytest.fixture(scope="session")
def given_weights(unmarked: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights of `unmarked`, made before anything is done with it."""
    return {name: value.clone() for name, value in unmarked.state_dict().items()}


@pytest.fixture(scope="session")
def protected(
    unmarked: nn.Module, given_weights: dict[str, Tensor], quick: TriggerKey, photos: ImageSet, owner: Owner
) -> Protected:
    """The denoiser `unmarked`, protected once for all tests, with a cheap salt."""
    return protect(unmarked, quick, data=photos, owner=owner, name="tiny", stretch=10)
