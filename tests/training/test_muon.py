from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from modelguard.networks import DnCNN
from modelguard.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 72), (64, 576), (72, 8), (20, 20)])
def test_singular_values_become_alike_and_their_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.mT @ orthogonal(matrix) @ right.mT
    assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-3)
    clear = values > values.max() / 10
    assert ((inside.diagonal()[clear] > 0.6) & (inside.diagonal()[clear] < 1.3)).all()


@pytest.mark.parametrize("rank", [4, 32])
def test_the_short_way_is_the_iteration_of_the_paper(rank: int) -> None:
    draw = torch.Generator().manual_seed(1)
    matrix = torch.randn(32, rank, generator=draw) @ torch.randn(rank, 288, generator=draw)
    x = matrix / torch.linalg.matrix_norm(matrix)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    assert torch.allclose(orthogonal(matrix), x, atol=1e-4)


def test_nothing_becomes_of_no_gradient() -> None:
    assert torch.equal(orthogonal(torch.zeros(8, 72)), torch.zeros(8, 72))


def test_weights_move_in_all_directions_alike_and_biases_as_adam_moves_them() -> None:
    net = nn.Conv2d(16, 16, 3)
    other = copy.deepcopy(net)
    for one, kind in ((net, Muon), (other, torch.optim.Adam)):
        optimiser = kind(one.parameters(), 1e-2)
        one(torch.ones(1, 16, 5, 5)).square().sum().backward()  # a gradient of rank one
        before = one.weight.detach().clone()
        optimiser.step()
        moved = (one.weight - before).detach()
        assert moved.square().mean().sqrt() < 1.3e-2
    assert torch.equal(net.bias, other.bias)
    assert not torch.equal(net.weight, other.weight)


def test_the_ends_of_a_net_are_left_to_adam() -> None:
    net = DnCNN(4, 1, 16, batch_norm=False)
    optimiser = Muon(net.parameters())
    net(torch.rand(1, 1, 16, 16)).square().sum().backward()
    optimiser.step()
    taken = [name for name, weight in net.named_parameters() if "momentum" in optimiser.state[weight]]
    assert taken == ["body.2.weight", "body.4.weight"]
