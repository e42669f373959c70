"""The hosts and pictures that benchmarks run on, named on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file
from torch import Tensor, nn

from modelguard import networks
from modelguard.datasets import Downscale, GaussianNoise, ImageSet, Task
from modelguard.errors import InputError
from modelguard.metrics import quality

Train = Annotated[Path, typer.Option(help="folder of training photos")]
Tests = Annotated[Path, typer.Option(help="folder of test sets: Set12, BSD68, Set14")]
STUDIO = (16 / 255, 219 / 255)
"""Published super-resolution figures are on BT.601 luma with headroom: 16 + 219 Y."""


class ByChannel(nn.Module):
    """Puts each colour through a net for grey images by itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W)."""
        answer: Tensor = self.net(image.flatten(0, 1)[:, None])
        return answer.view(image.shape)


@dataclass(frozen=True)
class Host:
    """A model with the task it is for and the sets it is published on."""

    name: str
    model: nn.Module
    task: Task
    sets: tuple[str, ...]
    border: int = 0
    channels: int = 1

    def images(self, tests: Path, name: str) -> ImageSet:
        """Return test set `name` as this host sees it; in super-resolution, as studio luma."""
        images = ImageSet.from_folder(tests / name, self.channels)
        if self.border:
            low, span = STUDIO
            images = ImageSet.of([low + span * image for image in images])
        return images

    def psnr(self, model: nn.Module, tests: Path, name: str) -> float:
        """Return the PSNR of `model` in this host's place on test set `name`."""
        return quality(model, self.images(tests, name), self.task, border=self.border).psnr


def load(name: str, hosts: Path | None = None) -> Host:
    """Return a host by name: our own weights, or the independent ones in the folder `hosts`.

    Args:
        name: "dncnn", "dncnn-colour", "red", "vdsr-2", "vdsr-3", "vdsr-4", or for independent weights "kair"
            and "vdsr-public-2", "-3", "-4".
        hosts: folder with dncnn_gray_sigma25_kair.safetensors and vdsr_y_x234.safetensors.

    Raises:
        InputError: there is no such host, or it needs the folder.
    """
    denoise = GaussianNoise(25), ("Set12", "BSD68")
    if name in ("dncnn", "red"):
        return Host(name, getattr(networks, name)(pretrained="denoise-25"), *denoise)
    if name == "dncnn-colour":
        return Host(name, ByChannel(load("dncnn").model).eval(), denoise[0], ("Set5",), channels=3)
    if name == "kair":
        net = networks.dncnn(batch_norm=False)
        return Host(name, _in_order(net, _folder(hosts) / "dncnn_gray_sigma25_kair.safetensors"), *denoise)
    family, _, scale = name.rpartition("-")
    if family in ("vdsr", "vdsr-public") and scale in ("2", "3", "4"):
        if family == "vdsr":
            net = networks.vdsr(int(scale), pretrained="sr-234")
        else:
            flat = _in_order(networks.vdsr(), _folder(hosts) / "vdsr_y_x234.safetensors")
            net = networks.Upscaled(flat, int(scale))
        return Host(name, net, Downscale(int(scale)), ("Set14",), int(scale))
    raise InputError(
        f"host: there is no host called {name!r}",
        "use dncnn, dncnn-colour, red, vdsr-2, kair or vdsr-public-2",
    )


def _folder(hosts: Path | None) -> Path:
    if hosts is None:
        raise InputError("hosts: independent weights are needed", "name their folder with --hosts")
    return hosts


def _in_order(net: nn.Module, path: Path) -> nn.Module:
    """Load weights saved under other names, layer by layer."""

    def place(item: tuple[str, Tensor]) -> tuple[int, int, bool]:
        parts = item[0].split(".")
        digits = [int(part) for part in parts if part.isdigit()]
        return {"input": 0, "output": 2}.get(parts[0], 1), digits[0] if digits else 0, parts[-1] == "bias"

    values = [value for _, value in sorted(load_file(path).items(), key=place)]
    own = net.state_dict()
    net.load_state_dict(dict(zip(own, values, strict=True)))
    return net.eval()


def photos(folder: Path, count: int | None = None, smallest: int = 64, channels: int = 1) -> ImageSet:
    """Return the training photos, or `count` of them spread over the folder."""
    images = ImageSet.from_folder(folder, channels, smallest=smallest)
    if count is None or count >= len(images):
        return images
    return ImageSet(tuple(images.images[number * len(images) // count] for number in range(count)))


def textures(folder: Path, tile: int = 128) -> ImageSet:
    """Return the pictures of a folder cut into square tiles, a thief's foreign data; edges are left out."""
    tiles = [
        image[:, top : top + tile, left : left + tile]
        for image in ImageSet.from_folder(folder, 1, smallest=tile).images
        for top in range(0, image.shape[1] - tile + 1, tile)
        for left in range(0, image.shape[2] - tile + 1, tile)
    ]
    return ImageSet(tuple(tiles))


def reproducible(seed: int = 0) -> None:
    """Seed torch's global generator."""
    torch.manual_seed(seed)
