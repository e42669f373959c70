"""Losses that see more than single pixels: perceptual (Johnson et al., ECCV 2016) and adversarial."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
import torchvision
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from torch import Tensor, nn
from torch.func import functional_call

from modelguard.errors import InputError, WeightsError

Features = Literal["vgg16", "gradients"]

VGG_REPOSITORY, VGG_FILE = "timm/vgg16.tv_in1k", "model.safetensors"


class Perceptual(nn.Module):
    """Mean squared difference of features, averaged over feature maps; eq. 7 of Zhang et al.

    Args:
        features: "vgg16" for relu2_2 of VGG-16, trained on ImageNet, on inputs in [0, 1] that are not
            normalised further, as in the reference code. "gradients" needs no weights: differences to the
            right and lower neighbour at full, half and quarter size, our substitute.

    Raises:
        InputError: `features` is neither.
        WeightsError: the VGG-16 weights are not in the local cache; they are never fetched on their own.
    """

    def __init__(self, features: Features = "vgg16") -> None:
        super().__init__()
        if features not in get_args(Features):
            raise InputError(
                f"features: {features!r} are not known", f"use one of {', '.join(get_args(Features))}"
            )
        self.vgg = _vgg16() if features == "vgg16" else None

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the loss between (B, C, H, W) images in [0, 1]; C is 1 or 3 for VGG."""
        of_image = self.features(image)
        with torch.no_grad():
            of_target = self.features(target)
        losses = [F.mse_loss(a, b) for a, b in zip(of_image, of_target, strict=True)]
        return torch.stack(losses).mean()

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps that are compared."""
        if self.vgg is not None:
            return [cast(Tensor, self.vgg(image.expand(-1, 3, -1, -1)))]
        maps = []
        for size in (1, 2, 4):
            small = F.avg_pool2d(image, size)
            maps += [small.diff(dim=-1), small.diff(dim=-2)]
        return maps


def _vgg16() -> nn.Module:
    path = try_to_load_from_cache(VGG_REPOSITORY, VGG_FILE)
    if not isinstance(path, str):
        raise WeightsError(
            f"features: the VGG-16 weights {VGG_REPOSITORY} are not in the local cache",
            f"fetch them once with `hf download {VGG_REPOSITORY} {VGG_FILE}`, or use features='gradients'",
        )
    with torch.device("meta"):  # the whole net has 138 million weights, of which these are few
        net = torchvision.models.vgg16(weights=None).features[:9]
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(f"features.{name}") for name in net.state_dict()}
    net.load_state_dict(state, assign=True)
    return cast(nn.Module, net.eval().requires_grad_(False))


def least_squares_gan(discriminator: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses (of what made `fake`, of the discriminator) with squares (Mao et al., ICCV 2017).

    The gradient of each reaches its own party only. So one backward through their sum and one optimiser
    train both at once, and a checkpoint of the module that holds both is complete.

    Args:
        discriminator: maps images to logits, 1 for real and 0 for fake.
        real: (B, C, H, W).
        fake: of the same shape.
    """
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    fooled: Tensor = functional_call(discriminator, frozen, (fake,))
    for_real, for_fake = discriminator(real.detach()), discriminator(fake.detach())
    judging = (for_real - 1).square().mean() + for_fake.square().mean()
    return (fooled - 1).square().mean(), judging / 2
