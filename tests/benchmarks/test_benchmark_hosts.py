from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from modelguard import networks
from modelguard.benchmarks import hosts
from modelguard.benchmarks.hosts import Host
from modelguard.datasets import Downscale, GaussianNoise, write_image
from modelguard.errors import InputError


def test_shipped_hosts_come_with_their_task() -> None:
    host = hosts.load("dncnn")
    assert (host.task, host.sets, host.border) == (GaussianNoise(25), ("Set12", "BSD68"), 0)
    large = hosts.load("vdsr-3")
    assert (large.task, large.sets, large.border) == (Downscale(3), ("Set14",), 3)
    with torch.no_grad():
        assert large.model(torch.rand(1, 1, 8, 6)).shape == (1, 1, 24, 18)


@pytest.mark.parametrize("name", ["vgg", "vdsr", "vdsr-5", "vdsr-public", "dncnn-2", ""])
def test_unknown_hosts_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no host called"):
        hosts.load(name)


@pytest.mark.parametrize("name", ["kair", "vdsr-public-2"])
def test_independent_hosts_need_their_folder(name: str) -> None:
    with pytest.raises(InputError, match="hosts"):
        hosts.load(name)


def renamed(net: nn.Module, names: Callable[[int, bool], str]) -> dict[str, Tensor]:
    """Return the state under other names, one number a layer, in an order of its own."""
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in net.state_dict()))
    state = {
        names(layers.index(key.rpartition(".")[0]), key.endswith("bias")): value.clone()
        for key, value in net.state_dict().items()
    }
    return {key: state[key] for key in sorted(state)}


def test_independent_weights_are_placed_by_their_layers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = networks.dncnn(batch_norm=False)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    state = renamed(net, lambda layer, bias: f"model.{2 * layer}.{'bias' if bias else 'weight'}")
    save_file(state, tmp_path / "dncnn_gray_sigma25_kair.safetensors")
    image = torch.rand(1, 1, 9, 9)
    with torch.no_grad():
        assert torch.equal(hosts.load("kair", tmp_path).model(image), net(image))

    flat = networks.vdsr()
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))

    def name(layer: int, bias: bool) -> str:
        ends = {0: "input.weight", 19: "output.weight"}
        return ends.get(layer, f"residual_layer.{layer - 1}.conv.weight")

    save_file(renamed(flat, name), tmp_path / "vdsr_y_x234.safetensors")
    with torch.no_grad():
        wanted = networks.Upscaled(flat, 2)(image)
        assert torch.equal(hosts.load("vdsr-public-2", tmp_path).model(image), wanted)


def test_super_resolution_is_measured_on_studio_luma(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 24).expand(1, 16, 24)
    write_image(tmp_path / "Set14" / "ramp.png", ramp)
    plain = Host("x", nn.Identity(), GaussianNoise(25), ("Set14",))
    (image,) = plain.images(tmp_path, "Set14")
    assert (float(image.min()), float(image.max())) == (0, 1)
    large = Host("x", networks.Upscaled(nn.Identity(), 2), Downscale(2), ("Set14",), border=2)
    (image,) = large.images(tmp_path, "Set14")
    assert float(image.min() * 255) == pytest.approx(16)
    assert float(image.max() * 255) == pytest.approx(235)
    assert large.psnr(large.model, tmp_path, "Set14") > 40


@pytest.mark.parametrize(("count", "picked"), [(None, 10), (4, 4), (7, 7), (10, 10), (99, 10)])
def test_photos_are_spread_over_the_folder(count: int | None, picked: int, tmp_path: Path) -> None:
    for number in range(10):
        write_image(tmp_path / f"{number}.png", torch.full((1, 4, 4), number / 10))
    images = hosts.photos(tmp_path, count, smallest=4)
    levels = [round(float(image.mean()) * 10) for image in images]
    assert len(levels) == picked == len(set(levels))
    assert levels == sorted(levels)
    assert levels[0] == 0
    assert levels[-1] >= 10 - 10 // picked - 1


def test_textures_are_cut_into_whole_tiles(tmp_path: Path) -> None:
    large = torch.arange(20 * 35).view(1, 20, 35) % 256 / 255
    write_image(tmp_path / "large.png", large)
    tiles = hosts.textures(tmp_path, tile=10)
    assert [tuple(tile.shape) for tile in tiles] == [(1, 10, 10)] * 6
    torch.testing.assert_close(tiles[4], large[:, 10:20, 10:20])
    with pytest.raises(InputError, match="no usable image"):
        hosts.textures(tmp_path, tile=21)


def test_runs_are_reproducible() -> None:
    hosts.reproducible(3)
    one = torch.rand(2)
    hosts.reproducible(3)
    assert torch.equal(one, torch.rand(2))
