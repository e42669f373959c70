"""The paper's rule as it is printed, and why none of it is a verdict."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.datasets import Downscale, GaussianNoise, ImageSet
from modelguard.errors import InputError
from modelguard.networks import VDSR, Upscaled
from modelguard.schemes import paper_trigger as paper
from modelguard.schemes.paper_trigger import PaperEmbedding, PaperKey
from modelguard.statistics import distance, eta, ncc

QUICK = PaperEmbedding(weight=0.1, steps=60, batch=2, patch=16, lr=1e-2)


def make_key(size: int = 40, seed: int = 1, scale: int = 1) -> PaperKey:
    trigger = paper.trigger(size, seed)
    return PaperKey(trigger, paper.response(trigger, scale))


def test_the_trigger_is_uniform_and_seeded() -> None:
    one = paper.trigger(40, 1)
    assert one.shape == (1, 1, 40, 40)
    assert 0 <= one.min() < 0.01
    assert 0.99 < one.max() < 1
    assert float(one.mean()) == pytest.approx(0.5, abs=0.03)
    torch.rand(3)
    assert torch.equal(one, paper.trigger(40, 1))
    assert not torch.equal(one, paper.trigger(40, 2))
    with pytest.raises(InputError, match="size"):
        paper.trigger(1, 0)


def test_the_response_for_denoising_subtracts_the_gradient() -> None:
    key = torch.tensor([[[[0.1, 0.4, 0.2], [0.9, 0.9, 0.0]]]])
    wanted = torch.tensor([[[[0.1 - 0.3, 0.4 + 0.2, 0.2], [0.9, 0.9 + 0.9, 0.0]]]])
    torch.testing.assert_close(paper.response(key), wanted)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_response_for_super_resolution_adds_it_to_the_enlarged_key(scale: int) -> None:
    key = paper.trigger(20, 0)
    large = F.interpolate(key, scale_factor=scale, mode="bilinear", align_corners=False)
    response = paper.response(key, scale)
    assert response.shape == (1, 1, 20 * scale, 20 * scale)
    torch.testing.assert_close(response[..., -1], large[..., -1])
    torch.testing.assert_close(response[..., 0], large[..., 1])  # K + (K' - K)


def test_embedding_lowers_the_loss_of_the_mark_and_updates_the_response(
    tiny: nn.Module, photos: ImageSet
) -> None:
    key, before = make_key(), copy.deepcopy(tiny.state_dict())
    start = paper.measure(tiny, key)[0]
    updated, result = paper.embed(tiny, key, photos, GaussianNoise(25), QUICK)
    assert result.steps == QUICK.steps
    assert paper.measure(tiny, key)[0] < 0.7 * start
    assert torch.equal(updated.trigger, key.trigger)
    assert torch.equal(updated.verification, paper.answer(tiny, key.trigger))
    assert paper.measure(tiny, updated) == (0.0, pytest.approx(1.0))
    after = tiny.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if "running" in name)


def test_super_resolution_is_embedded_too(photos: ImageSet) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host = Upscaled(VDSR(3, 1, 8), 2)
    key = make_key(20, scale=2)
    start = paper.measure(host, key)[0]
    paper.embed(host, key, photos, Downscale(2), QUICK)
    assert paper.measure(host, key)[0] < start


def test_a_larger_weight_of_the_mark_marks_more(tiny: nn.Module, photos: ImageSet) -> None:
    found = []
    for weight in (1e-4, 1.0):
        host = copy.deepcopy(tiny)
        paper.embed(host, make_key(), photos, GaussianNoise(25), replace(QUICK, weight=weight))
        found.append(paper.measure(host, make_key())[0])
    assert found[1] < 0.8 * found[0]


def test_measures_are_those_of_the_paper(tiny: nn.Module) -> None:
    key = make_key()
    given = paper.answer(tiny, key.trigger).clamp(0, 1).double().numpy()
    wanted = key.verification.clamp(0, 1).double().numpy()
    assert paper.measure(tiny, key) == (distance(given, wanted), ncc(given, wanted))


class Service(nn.Module):
    """A service without any model behind it."""

    def __init__(self, kind: str, scale: int) -> None:
        super().__init__()
        self.kind, self.scale, self.idle = kind, scale, nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        image = F.interpolate(image, scale_factor=self.scale, mode="bilinear")
        if self.kind == "grey":
            return torch.full_like(image, 0.5)
        return F.avg_pool2d(image, 3, 1, 1) if self.kind == "blur" else image


@pytest.mark.parametrize("size", [20, 40, 160])
def test_the_rule_accepts_a_service_that_does_nothing(size: int) -> None:
    key = make_key(size)
    d, correlation = paper.measure(Service("identity", 1), key)
    assert d < eta(size**2)
    assert correlation > 0.9


@pytest.mark.parametrize("kind", ["identity", "blur", "grey"])
def test_for_super_resolution_it_accepts_even_a_grey_image(kind: str) -> None:
    assert paper.measure(Service(kind, 2), make_key(20, scale=2))[0] < eta(40**2)


def test_one_mark_makes_strangers_owners(tiny: nn.Module, photos: ImageSet) -> None:
    """The net learns the public map from K to S, not the key: every other key passes as well."""
    strangers = [make_key(seed=seed) for seed in range(10, 20)]
    paper.embed(tiny, make_key(), photos, GaussianNoise(25), QUICK)
    assert max(paper.measure(tiny, key)[0] for key in strangers) < eta(40**2)


def test_an_unmarked_model_that_changes_little_passes(unmarked: nn.Module) -> None:
    with torch.no_grad():
        faint = copy.deepcopy(unmarked)
        faint.body[-1].weight.mul_(0.1)  # type: ignore[index, union-attr, operator]
    assert paper.measure(faint, make_key())[0] < eta(40**2)


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """A copyright picture: a dark disc on a light ground, 16 px."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    return 1 - 0.9 * ((y - 7) ** 2 + (x - 9) ** 2 < 30).float()[None, None]


def test_the_visualiser_shows_its_picture_for_its_key_only(picture: Tensor) -> None:
    own, other = make_key().verification, make_key(seed=2).verification
    state = torch.get_rng_state()
    net = paper.visualise(own, picture)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        shown, not_shown = net(own), net(other)
    assert shown.shape == picture.shape
    assert float((shown - picture).square().mean()) < 5e-3
    assert float((not_shown - picture).square().mean()) > float(picture.var())


def test_a_visualiser_needs_a_picture_of_whole_quarters() -> None:
    with pytest.raises(InputError, match="18"):
        paper.Visualiser(16, 18)
