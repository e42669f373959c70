from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from modelguard.errors import InputError, WeightsError
from modelguard.networks import PatchGAN
from modelguard.training import losses
from modelguard.training.losses import Perceptual, least_squares_gan


def test_each_adversary_gets_its_own_gradient_from_one_backward() -> None:
    judge, made = PatchGAN(1, width=4), torch.rand(2, 1, 32, 32, requires_grad=True)
    real = torch.rand(2, 1, 32, 32)
    fooling, judging = least_squares_gan(judge, real, made)
    (fooling + judging).backward()
    both = [p.grad.clone() for p in judge.parameters() if p.grad is not None]
    of_made = made.grad
    assert of_made is not None
    judge.zero_grad()
    made.grad = None
    ((judge(real) - 1).square().mean() / 2 + judge(made.detach()).square().mean() / 2).backward()
    torch.testing.assert_close(both, [p.grad for p in judge.parameters()])
    judge.zero_grad()
    (judge(made) - 1).square().mean().backward()
    torch.testing.assert_close(of_made, made.grad)


def test_a_discriminator_that_is_trained_tells_real_from_fake() -> None:
    torch.manual_seed(0)
    judge = PatchGAN(1, width=4)
    optimiser = torch.optim.Adam(judge.parameters(), 1e-2)
    real, fake = torch.rand(4, 1, 32, 32), torch.full((4, 1, 32, 32), 0.5)
    for _ in range(15):
        optimiser.zero_grad()
        least_squares_gan(judge, real, fake)[1].backward()
        optimiser.step()
    assert judge(real).mean() > judge(fake).mean() + 0.5


def test_gradient_features_see_structure_and_not_brightness() -> None:
    loss, image = Perceptual("gradients"), torch.rand(1, 1, 16, 16) * 0.5
    assert loss(image, image) == 0
    assert loss(image + 0.1, image) < 1e-12
    assert loss(image + 0.1 * torch.randn_like(image), image) > 1e-3


def test_missing_vgg_weights_say_how_to_get_them_and_what_else_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(losses, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(WeightsError, match="VGG-16") as caught:
        Perceptual("vgg16")
    assert "hf download timm/vgg16.tv_in1k" in caught.value.remedy
    assert "gradients" in caught.value.remedy


@pytest.mark.parametrize("channels", [1, 3])
def test_vgg_features_are_relu2_2_of_the_cached_weights(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        net = torchvision.models.vgg16(weights=None).features[:9].eval()
    for parameter in net.to_empty(device="cpu").parameters():
        nn.init.normal_(parameter, std=0.1)
    save_file({f"features.{k}": v for k, v in net.state_dict().items()}, tmp_path / "vgg")
    monkeypatch.setattr(losses, "try_to_load_from_cache", lambda *_: str(tmp_path / "vgg"))
    loss, one, two = Perceptual("vgg16"), *torch.rand(2, 1, channels, 16, 16)
    with torch.no_grad():
        wanted = [net(x.expand(-1, 3, -1, -1)) for x in (one, two)]
    assert wanted[0].shape == (1, 128, 8, 8)
    torch.testing.assert_close(loss(one, two), nn.functional.mse_loss(*wanted))
    assert not any(p.requires_grad for p in loss.parameters())


def test_unknown_features_are_refused_rather_than_replaced() -> None:
    with pytest.raises(InputError, match="features: 'vgg'"):
        Perceptual("vgg")  # type: ignore[arg-type]
