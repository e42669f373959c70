from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import modelguard as mg
from modelguard import photos
from modelguard.errors import InputError
from modelguard.evidence import Key, Owner
from modelguard.networks import VDSR, DnCNN, Upscaled
from modelguard.schemes import Contract, SelfWatermark, odd_filters, shell
from modelguard.statistics import SignTest, sign_test
from modelguard.suspects import ModuleSuspect


@pytest.fixture(scope="module")
def host() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DnCNN(6, width=24, batch_norm=False).eval()


@pytest.fixture(scope="module")
def marked(host: nn.Module, owner: Owner) -> tuple[nn.Module, Key]:
    scheme = SelfWatermark(steps=200, batch=4, lr=4e-3, amplitude=12.0)
    key = Key.create(owner, scheme.public(Contract(1, 1)), 1, decoder=scheme.decoder, log2_n=1)
    model = copy.deepcopy(host)
    report = scheme.embed(model, key, photos.load(1), mg.GaussianNoise(25))
    assert report.steps == 200
    return model, key


def read(model: nn.Module, key: Key) -> SignTest:
    (secret_k, secret_b), total = key.leaf(0), np.zeros(odd_filters.CELLS, np.int64)
    for image in photos.load(1).images:
        query = image.permute(1, 2, 0).contiguous().numpy()
        answer = ModuleSuspect(model).ask(query).image
        assert answer is not None
        total += odd_filters.decode_photo(key.scheme, [secret_k], key.salt, query, answer)
    return sign_test(odd_filters.bits(key.scheme, secret_b, key.salt), total)


def test_the_host_learns_its_own_barrier(marked: tuple[nn.Module, Key], host: nn.Module) -> None:
    model, key = marked
    assert key.scheme["id"] == odd_filters.INSIDE_ID
    assert model.state_dict().keys() == host.state_dict().keys()
    assert read(model, key).log10_p < -8
    assert read(host, key).log10_p > -5


def test_its_weights_go_into_a_bare_host(marked: tuple[nn.Module, Key], host: nn.Module) -> None:
    """A barrier's weights want a shell around the host; these do not."""
    assert shell(host, marked[1].scheme, 1) is host


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"leaves": 0}, "leaves: 0"),
        ({"amplitude": 0.0}, "amplitude: 0.0"),
        ({"steps": 0}, "steps: 0"),
        ({"lr": float("inf")}, "lr: inf"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(how: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        SelfWatermark(**how)


def test_clips_are_refused() -> None:
    with pytest.raises(InputError, match="SelfWatermark is read from photos"):
        SelfWatermark().public(Contract(3, 1, 5))


def test_hosts_that_enlarge_and_colours_are_taught_too(owner: Owner) -> None:
    """Their every input is degraded: a clean photo is of another size."""
    for host, contract in (
        (Upscaled(VDSR(3, 1, 8), 2), Contract(1, 2)),
        (DnCNN(3, 3, 8, batch_norm=False), Contract(3, 1)),
    ):
        scheme = SelfWatermark(steps=2, batch=2, patch=32)
        key = Key.create(owner, scheme.public(contract), 2, decoder=scheme.decoder, log2_n=1)
        task = mg.Downscale(2) if contract.scale == 2 else mg.GaussianNoise(25)
        before = [one.clone() for one in host.parameters()]
        report = scheme.embed(host, key, photos.load(contract.channels), task)
        assert report.steps == 2
        assert any((one != two).any() for one, two in zip(before, host.parameters(), strict=True))
