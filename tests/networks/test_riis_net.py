from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from modelguard.errors import InputError
from modelguard.networks.haar import analyse, synthesise
from modelguard.networks.riis import RIISNet, RIISSizes

TINY = RIISSizes(blocks=2, growth=4, layers=2, projection=2, features=3, enhancement=3, width=6)


def pictures(secrets: int = 1, side: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.rand(2, 3, side, side, generator=generator),
        torch.rand(2, secrets, 3, side, side, generator=generator),
    )


def built(**changes: Any) -> RIISNet:
    torch.manual_seed(0)
    net = RIISNet(replace(TINY, **changes))
    net.initialise(*pictures(net.sizes.secrets))
    return net


@pytest.mark.parametrize("levels", [1, 2])
def test_bands_of_any_level_give_the_image_back(levels: int) -> None:
    image = pictures()[0]
    bands = analyse(image, levels)
    assert bands.shape == (2, 3 * 4**levels, 16 // 2**levels, 16 // 2**levels)
    torch.testing.assert_close(synthesise(bands, levels), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("secrets", [1, 2, 5])
@pytest.mark.parametrize("levels", [1, 2])
@torch.no_grad()
def test_the_container_starts_near_the_host_and_the_flow_inverts_it(secrets: int, levels: int) -> None:
    net = built(secrets=secrets, levels=levels)
    host, hidden = pictures(secrets)
    container = net.hide(host, hidden)
    assert (container - host).pow(2).mean() < 0.3 * host.var()
    assert not torch.equal(container, net.hide(host, 1 - hidden))
    x = net._joined(host, hidden)
    y, z, _ = net.flow(x)
    torch.testing.assert_close(net.flow.inverse(y, z), x, atol=4e-4, rtol=0)
    torch.testing.assert_close(net.flow.inverse(y, z, torch.zeros(2, 3)), x, atol=4e-4, rtol=0)


@torch.no_grad()
def test_z_starts_at_mean_0_and_about_unit_spread() -> None:
    _, z, _ = built().flow(built()._joined(*pictures()))
    assert z.mean().abs() < 0.3
    assert 0.5 < z.std() < 2


@torch.no_grad()
def test_revealing_is_a_function_of_the_picture_and_of_the_level() -> None:
    net, (host, secrets) = built(), pictures()
    container = net.hide(host, secrets)
    first, again = net.reveal(container), net.reveal(container)
    assert first[0].shape == host.shape
    assert first[1].shape == secrets.shape
    assert torch.equal(first[1], again[1])
    assert torch.equal(net.reveal(container, torch.zeros(2, 3))[1], first[1])
    assert not torch.equal(net.reveal(container, torch.ones(2, 3))[1], first[1])
    blind = built(modulated=False)
    assert torch.equal(blind.reveal(container, torch.ones(2, 3))[1], blind.reveal(container)[1])


@pytest.mark.parametrize("changes", [{}, {"projection": 0}, {"enhancement": 0}, {"modulated": False}])
def test_gradients_reach_every_weight_of_every_ablation(changes: dict[str, Any]) -> None:
    net, (host, secrets) = built(**changes), pictures()
    passed = net(host, secrets, lambda image: image, torch.full((2, 3), 0.5))
    sum(value.square().mean() for value in passed).backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # the last layer of a modulation cancels its bias, and dead ReLUs are chance
    assert [name for name in idle if "modulations" not in name and "inspector" not in name] == []


def test_a_decoupled_copy_starts_equal_and_then_reveals_by_itself() -> None:
    net, (host, secrets) = built(), pictures()
    copy = net.decoupled()
    assert copy.sizes == replace(TINY, decoupled=True)
    with torch.no_grad():
        container = net.hide(host, secrets)
        assert torch.equal(copy.hide(host, secrets), container)
        assert torch.equal(copy.reveal(container)[1], net.reveal(container)[1])
        assert copy.revealing is not None
        copy.revealing.last.shift.add_(0.1)
        assert torch.equal(copy.hide(host, secrets), container)
        assert not torch.equal(copy.reveal(container)[1], net.reveal(container)[1])
    rebuilt = RIISNet(copy.sizes)
    rebuilt.load_state_dict(copy.state_dict())


def test_inspecting_teaches_the_rest_nothing() -> None:
    net, (host, secrets) = built(), pictures()
    passed = net(host, secrets, lambda image: image, torch.zeros(2, 3))
    (passed.judged.sum() + passed.judged_host.sum()).backward()
    touched = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert touched == {"inspector"}
    level, logit = net.inspect(host)
    assert level.shape == (2, 3)
    assert logit.shape == (2,)
    assert level.min() >= 0


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"secrets": 6}, "secrets"),
        ({"secrets": 0}, "secrets"),
        ({"layers": 1}, "layers"),
        ({"enhancement": 2}, "enhancement"),
        ({"projection": -1}, "projection"),
        ({"blocks": 1.5}, "blocks"),
    ],
)
def test_impossible_sizes_are_named(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=name):
        replace(TINY, **changes)


def test_pictures_that_do_not_fit_are_refused() -> None:
    net, (host, secrets) = built(), pictures()
    with pytest.raises(InputError, match="secrets"):
        net.hide(host, pictures(2)[1])
    with pytest.raises(InputError, match="secrets"):
        net.hide(host, secrets[..., :8])
    for picture in (torch.rand(3, 16, 16), torch.rand(1, 1, 16, 16), torch.rand(1, 3, 15, 16), host.byte()):
        with pytest.raises(InputError, match="image"):
            net.reveal(picture)


def test_every_weight_of_a_decoupled_net_is_used() -> None:
    """A part without gradients would stop training in several processes."""
    net, (host, secrets) = built().decoupled(), pictures()
    passed = net(host, secrets, lambda image: image, torch.full((2, 3), 0.5))
    sum(value.square().mean() for value in passed).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
