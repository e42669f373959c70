"""Networks by name: the hosts `dncnn`, `red`, `vdsr` (the first and last super-resolve too), `ristn`, `unet`.

Each constructor takes `pretrained="name"` for weights that ship with the package (see `modelguard.weights`).
`surrogate(name)` returns an untrained network such as thieves use.
"""

from __future__ import annotations

from torch import nn

from modelguard import weights
from modelguard.networks.cnet import CNet
from modelguard.networks.dncnn import DnCNN
from modelguard.networks.film_strip import FilmStrip, Still
from modelguard.networks.modes import device_of, evaluating
from modelguard.networks.patchgan import PatchGAN
from modelguard.networks.red import RED
from modelguard.networks.resnet_generator import ResNetGenerator
from modelguard.networks.ristn import RISTN, RISTNSizes, ristn, upscale
from modelguard.networks.surrogates import surrogate
from modelguard.networks.timm_unet import TimmUNet
from modelguard.networks.transformer_restorer import TransformerRestorer
from modelguard.networks.unet import UNet
from modelguard.networks.vdsr import VDSR, Upscaled, bicubic

__all__ = [
    "RED",
    "RISTN",
    "VDSR",
    "CNet",
    "DnCNN",
    "FilmStrip",
    "PatchGAN",
    "RISTNSizes",
    "ResNetGenerator",
    "Still",
    "TimmUNet",
    "TransformerRestorer",
    "UNet",
    "Upscaled",
    "bicubic",
    "device_of",
    "dncnn",
    "evaluating",
    "red",
    "ristn",
    "surrogate",
    "unet",
    "upscale",
    "vdsr",
]


def dncnn(
    depth: int = 17,
    channels: int = 1,
    *,
    batch_norm: bool = True,
    scale: int | None = None,
    pretrained: str | None = None,
) -> nn.Module:
    """Return a DnCNN denoiser, or a super-resolver around it when `scale` is given.

    Args:
        depth: 17 for one noise level, 20 for blind denoising or super-resolution.
        channels: 1 (grey) or 3 (colour).
        batch_norm: false for weights whose batch norm is merged into the convolutions.
        scale: up-scale by this factor first (bicubic), as in the papers' SR-DnCNN.
        pretrained: name of shipped weights, such as "denoise-25".
    """
    net = DnCNN(depth, channels, batch_norm=batch_norm)
    return _finish("dncnn", net, scale, pretrained)


def red(channels: int = 1, *, pretrained: str | None = None) -> nn.Module:
    """Return the 13-layer RED denoiser; see `RED`. `pretrained="denoise-25"` is for grey, noise of 25."""
    return _finish("red", RED(channels), None, pretrained)


def vdsr(scale: int | None = None, *, pretrained: str | None = None) -> nn.Module:
    """Return VDSR on luma: on up-sampled images, or from low resolution when `scale` is given.

    Args:
        scale: 2, 3 or 4 to map (B, 1, H, W) to (B, 1, scale*H, scale*W); None to sharpen an up-sampled image.
        pretrained: name of shipped weights, "sr-234" for all three scales.
    """
    return _finish("vdsr", VDSR(), scale, pretrained)


def unet(
    in_channels: int, out_channels: int, *, levels: int = 7, width: int = 64, pretrained: str | None = None
) -> nn.Module:
    """Return the pix2pix U-Net; see `UNet`. No weights of it ship yet.

    Args:
        in_channels: of the input.
        out_channels: of the output image, which is in [0, 1].
        levels: halvings; light nets use 5.
        width: feature channels of the first level; light nets use 16.
        pretrained: name of shipped weights.
    """
    return _finish("unet", UNet(in_channels, out_channels, levels, width), None, pretrained)


def _finish(family: str, net: nn.Module, scale: int | None, pretrained: str | None) -> nn.Module:
    if pretrained is not None:
        weights.load_into(net, f"{family}-{pretrained}")
    return (net if scale is None else Upscaled(net, scale)).eval()
