from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modelguard.errors import InputError
from modelguard.networks import CNet, ResNetGenerator, TimmUNet, TransformerRestorer, surrogate

SMALL = ["cnet-4", "res9-4", "res16-2", "unet-2", "transformer-8", "timm-resnet10t"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("res9", 11_378_179),
        ("res16", 19_639_299),
        ("unet", 41_832_067 - 3 * 64 * 16),  # the published count is for twice the input channels
        ("cnet-8", 2 * (3 * 8 * 9) + 8 + 3 + 5 * (64 * 9 + 8)),
    ],
)
def test_the_paper_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in surrogate(name).parameters()) == parameters


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 33, 50), (3, 64, 32), (3, 1, 5)])
def test_every_size_and_colour_comes_back_as_it_was(
    name: str, channels: int, height: int, width: int
) -> None:
    with torch.random.fork_rng(), torch.no_grad():
        image = torch.rand(2, channels, height, width)
        answer = surrogate(name, channels).eval()(image)
    assert answer.shape == image.shape
    assert answer.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = surrogate(name).train()
        optimiser = torch.optim.SGD(net.parameters(), 1e-2)
        for _ in range(4):  # what starts at zero, such as tails, lets gradients through a step later
            optimiser.zero_grad()
            net(torch.rand(2, 3, 64, 64)).square().mean().backward()
            optimiser.step()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    silent = [
        name
        for name, gradient in gradients.items()
        # a bias before a norm is taken away again
        if gradient is None or (gradient.ndim > 1 and not gradient.abs().sum())
    ]
    assert silent == []


@pytest.mark.parametrize(
    "net", [CNet(3, 8), ResNetGenerator(3, 2, 8), TransformerRestorer(3, 8), TimmUNet(3)], ids=type
)
def test_training_starts_near_the_image(net: nn.Module, make_photo: Callable[..., Tensor]) -> None:
    image = make_photo(1, 3, 40, 32)[None]
    with torch.no_grad():
        assert (net.eval()(image) - image).abs().mean() < 0.1


def test_an_image_s_answer_does_not_hang_on_the_batch() -> None:
    net = ResNetGenerator(1, 2, 4).eval()
    images = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(images)[1:2], net(images[1:2]))


def test_channel_attention_sees_the_whole_image() -> None:
    """A change in one corner reaches the other, far beyond any convolution."""
    net = TransformerRestorer(1, 8, blocks=1).eval()
    nn.init.normal_(net.tail.weight)
    image = torch.rand(1, 1, 96, 96)
    other = image.clone()
    other[..., :8, :8] = 1 - other[..., :8, :8]
    with torch.no_grad():
        assert (net(image) - net(other))[..., -8:, -8:].abs().max() > 0


@pytest.mark.parametrize("name", ["cnet-x", "gan", "unet-0", "timm-", "", "timm-no_such_encoder"])
def test_unknown_networks_are_named(name: str) -> None:
    with pytest.raises(InputError, match=r"^(network|encoder): "):
        surrogate(name)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="timm is not installed") as caught:
        surrogate("timm-resnet18")
    assert "modelguard-sdk[timm]" in caught.value.remedy


@pytest.mark.parametrize(
    ("build", "name"), [(lambda: CNet(depth=1), "depth"), (lambda: TransformerRestorer(width=12), "width")]
)
def test_bad_sizes_are_named(build: Callable[[], nn.Module], name: str) -> None:
    with pytest.raises(InputError, match=name):
        build()
