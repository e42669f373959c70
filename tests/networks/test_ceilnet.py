from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modelguard.networks import UNet
from modelguard.networks.ceilnet import CEILNet
from modelguard.networks.logo_classifier import LogoClassifier


def cost(net: nn.Module, channels: int) -> int:
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, channels, 256, 256, device="meta"))
    return counter.get_total_flops()


@pytest.mark.parametrize(("channels", "count"), [(1, 3_366_145), (3, 3_368_707)])
def test_the_paper_size_has_the_published_parameter_count(channels: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in CEILNet(channels, channels).parameters()) == count


@pytest.mark.parametrize("size", [(16, 24), (17, 23)])
def test_any_size_comes_back_and_nothing_is_negative(size: tuple[int, int]) -> None:
    with torch.no_grad():
        picture = CEILNet(3, 1, width=8)(torch.rand(2, 3, *size))
    assert picture.shape == (2, 1, *size)
    assert picture.min() >= 0


def test_a_fresh_net_is_alive() -> None:
    net = CEILNet(1, 3, width=8)
    net(torch.rand(1, 1, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.tail.parameters())


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    net, images = CEILNet(1, 1, width=8).train(), torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(net(images)[1:2], net(images[1:2]))


def test_light_sizes_cost_less_than_a_tenth_of_the_papers() -> None:
    with torch.device("meta"):
        assert cost(UNet(2, 1, levels=5, width=16), 2) < 0.1 * cost(UNet(2, 1), 2)
        assert cost(CEILNet(1, 1, width=32), 1) < 0.1 * cost(CEILNet(1, 1), 1)


@pytest.mark.parametrize("size", [(8, 8), (100, 70)])
def test_the_classifier_has_a_class_for_the_blank_and_one_a_mark(size: tuple[int, int]) -> None:
    assert LogoClassifier(3, marks=4)(torch.rand(2, 3, *size)).shape == (2, 5)
