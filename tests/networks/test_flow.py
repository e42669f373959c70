from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelguard.networks.flow import ActNorm, AffineCoupling, FlowBlock, Modulation, Rotation

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31 - 1)


def there_and_back(
    blocks: list[FlowBlock], x: Tensor, condition: Tensor | None, level: Tensor | None
) -> tuple[Tensor, Tensor]:
    y = x
    for block in blocks:
        y, _ = block(y, condition, level)
    back = y
    for block in reversed(blocks):
        back = block.inverse(back, condition, level)
    return y, back


def away_from_the_start(blocks: list[FlowBlock], scale: float) -> None:
    with torch.no_grad():
        for block in blocks:
            block.rotation.generator.add_(torch.randn_like(block.rotation.generator))
            block.norm.log_scale.add_(0.3 * torch.randn_like(block.norm.log_scale))
            for net in (block.coupling.phi, block.coupling.psi):
                net.last.weight.mul_(scale)


@few
@given(seeds, st.floats(0.1, 10), st.sampled_from([(3, 3), (4, 8), (6, 1)]))
@torch.no_grad()
def test_blocks_invert_exactly_with_condition_and_level(
    seed: int, scale: float, sizes: tuple[int, int]
) -> None:
    torch.manual_seed(seed)
    blocks = [FlowBlock(*sizes, 4, 2, condition=5, levels=3, mixed=n % 2 == 0) for n in range(3)]
    away_from_the_start(blocks, scale)
    x, condition, level = torch.randn(2, sum(sizes), 6, 6), torch.randn(2, 5, 6, 6), torch.rand(2, 3)
    y, back = there_and_back(blocks, x, condition, level)
    assert (back - x).abs().max() <= 1e-4 * max(1.0, float(y.abs().max()))
    first = blocks[0](x, condition, level)[0]
    assert not torch.equal(blocks[0](x, condition, level + 1)[0], first)
    assert not torch.equal(blocks[0](x, condition + 1, level)[0], first)


def test_the_log_determinant_is_that_of_the_jacobian() -> None:
    torch.manual_seed(0)
    block = FlowBlock(2, 3, 4, 2, mixed=True)
    away_from_the_start([block], 3.0)
    x = torch.randn(1, 5, 2, 2)
    jacobian = torch.autograd.functional.jacobian(lambda one: block(one)[0], x).reshape(20, 20)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet / 4, block(x)[1][0])


@torch.no_grad()
def test_the_inverse_of_bf16_sub_nets_is_still_near() -> None:
    torch.manual_seed(0)
    blocks = [FlowBlock(12, 12, 8, 3) for _ in range(4)]
    away_from_the_start(blocks, 1.0)
    x = torch.randn(2, 12 + 12, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y, back = there_and_back(blocks, x, None, None)
    assert y.dtype == back.dtype == torch.float32
    assert (back - x).abs().max() < 0.03  # of values of spread 1: 0.005 when this was written, 4e-5 in fp32


def test_blocks_invert_after_a_training_step() -> None:
    torch.manual_seed(0)
    blocks = [FlowBlock(4, 4, 6, 2) for _ in range(3)]
    x = torch.randn(2, 8, 8, 8)
    optimiser = torch.optim.Adam([p for block in blocks for p in block.parameters()], 0.03)
    for _ in range(3):
        y, _ = there_and_back(blocks, x, None, None)
        optimiser.zero_grad()
        (y - x.flip(1)).pow(2).mean().backward()
        optimiser.step()
    with torch.no_grad():
        _, back = there_and_back(blocks, x, None, None)
    assert (back - x).abs().max() < 1e-4


def test_actnorm_starts_at_the_moments_of_its_data() -> None:
    x = 3 * torch.randn(4, 2, 16, 16) + torch.tensor([5.0, -1.0]).view(2, 1, 1)
    like = 0.1 * torch.randn(4, 2, 16, 16) + 0.5
    norm = ActNorm(2)
    norm.initialise(x)
    y = norm(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)
    norm.initialise(x, like)
    torch.testing.assert_close(norm(x).mean((0, 2, 3)), like.mean((0, 2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm(x).std((0, 2, 3)), like.std((0, 2, 3)), atol=1e-3, rtol=0)
    torch.testing.assert_close(norm.inverse(norm(x)), x, atol=1e-4, rtol=0)
    norm.initialise(torch.ones(1, 2, 4, 4))  # a flat channel has no spread
    assert torch.isfinite(norm(x)).all()


@few
@given(seeds, st.integers(1, 30))
@torch.no_grad()
def test_the_1x1_stays_a_rotation_whatever_its_weights(seed: int, channels: int) -> None:
    torch.manual_seed(seed)
    rotation = Rotation(channels, mixed=True)
    rotation.generator.mul_(3)
    matrix = rotation.matrix()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(channels), atol=1e-4, rtol=0)
    x = torch.randn(1, channels, 3, 5)
    torch.testing.assert_close(rotation(x).norm(), x.norm(), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(rotation.inverse(rotation(x)), x, atol=1e-4, rtol=0)
    assert torch.equal(Rotation(channels, mixed=False)(x), x)


def test_only_the_first_half_sees_the_condition() -> None:
    coupling = AffineCoupling(2, 3, 4, 2, condition=4)
    assert coupling.phi.hidden[0].in_channels == 3 + 4
    assert coupling.psi.hidden[0].in_channels == 2


@torch.no_grad()
def test_the_log_scale_of_a_coupling_is_bounded() -> None:
    coupling = AffineCoupling(2, 2, 4, 2, limit=0.5)
    for net in (coupling.phi, coupling.psi):
        net.last.weight.mul_(1e6)
    x = torch.randn(1, 4, 4, 4)
    small, large = (coupling(torch.cat([a * torch.ones(1, 2, 4, 4), x[:, 2:]], 1))[0] for a in (0, 1))
    factor = (large - small)[:, :2]
    assert factor.max() <= torch.tensor(0.5).exp() + 0.02
    assert factor.min() >= torch.tensor(-0.5).exp() - 0.02


@pytest.mark.parametrize("outputs", [1, 6])
def test_the_modulation_is_exactly_1_without_a_distortion(outputs: int) -> None:
    modulation = Modulation(3, outputs)
    assert torch.equal(modulation(torch.zeros(2, 3)), torch.ones(2, outputs, 1, 1))
    factors = modulation(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert not torch.equal(factors[0], factors[1])
