from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from modelguard import networks, weights
from modelguard.errors import InputError
from modelguard.networks import RED, VDSR, DnCNN, Upscaled, bicubic, evaluating


@pytest.mark.parametrize(
    ("net", "parameters"),
    [(RED(), 407_425), (VDSR(), 664_704), (DnCNN(17), 556_097), (DnCNN(17, batch_norm=False), 555_137)],
    ids=["RED", "VDSR", "DnCNN-17 with batch norm", "DnCNN-17 merged"],
)
def test_published_sizes(net: nn.Module, parameters: int) -> None:
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("build", [networks.dncnn, networks.red])
def test_hosts_keep_the_shape_and_start_near_the_identity(
    build: Callable[..., nn.Module], channels: int, make_photo: Callable[..., Tensor]
) -> None:
    image = make_photo(1, channels, 20, 13)[None]
    with torch.no_grad():
        answer = build(channels=channels)(image)
    assert answer.shape == image.shape
    assert (answer - image).abs().mean() < 0.1


def test_constructors_return_nets_in_evaluation_mode() -> None:
    assert not any(m.training for host in (networks.dncnn(5), networks.vdsr(2)) for m in host.modules())


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_super_resolution_hosts_enlarge(scale: int, make_photo: Callable[..., Tensor]) -> None:
    image = make_photo(2, 1, 9, 7)[None]
    for host in (networks.vdsr(scale), networks.dncnn(4, scale=scale)):
        with torch.no_grad():
            assert host(image).shape == (1, 1, 9 * scale, 7 * scale)


def test_vdsr_without_scale_sharpens_at_one_size() -> None:
    with torch.no_grad():
        assert networks.vdsr()(torch.rand(2, 1, 6, 8)).shape == (2, 1, 6, 8)


def test_upscaled_hands_the_bicubic_image_to_its_net(make_photo: Callable[..., Tensor]) -> None:
    image = make_photo(3, 1, 12, 10)[None]
    torch.testing.assert_close(Upscaled(nn.Identity(), 2)(image), bicubic(image, (24, 20)))


def test_bicubic_is_the_kernel_of_pillow(make_photo: Callable[..., Tensor]) -> None:
    image = make_photo(4, 1, 40, 32)[0]
    picture = Image.fromarray(image.numpy()).resize((16, 20), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(picture))
    torch.testing.assert_close(bicubic(image[None, None], (20, 16))[0, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("build", "name"), [(lambda: DnCNN(2), "depth"), (lambda: networks.vdsr(0), "scale")]
)
def test_bad_sizes_are_named(build: Callable[[], nn.Module], name: str) -> None:
    with pytest.raises(InputError, match=name):
        build()


def test_pretrained_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: nn.Module) -> None:
    weights.publish(DnCNN(3), "dncnn-three", {}, tmp_path)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    one, two = (networks.dncnn(3, pretrained="three") for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )
    with pytest.raises(InputError, match="three"):
        networks.dncnn(4, pretrained="three")
    with pytest.raises(InputError, match="dncnn-four"):
        networks.dncnn(pretrained="four")


def test_evaluating_puts_every_mode_back(tiny: nn.Module) -> None:
    tiny.train()
    frozen = next(m for m in tiny.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    before = [m.training for m in tiny.modules()]
    with evaluating(tiny):
        assert not any(m.training for m in tiny.modules())
        assert not torch.is_grad_enabled()
    assert [m.training for m in tiny.modules()] == before
    assert torch.is_grad_enabled()
    with pytest.raises(RuntimeError), evaluating(tiny):
        tiny(torch.zeros(1, 7, 4, 4))
    assert [m.training for m in tiny.modules()] == before
