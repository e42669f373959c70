"""Protect a model of your own: a U-Net with an encoder from timm, trained and marked on the CPU in minutes.

    pip install timm
    python examples/own_model.py FOLDER

Any other nn.Module that maps (B, C, H, W) in [0, 1] to the same size, or to a whole multiple of it, goes the
same way.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import modelguard as mg
from modelguard import photos
from modelguard.datasets import Patches
from modelguard.training import TrainConfig, fit, restoration

PASSPHRASE = "for this example only"


class UNet(nn.Module):
    """A denoiser: the encoder of any timm network, and a decoder that leads its features back to full size.

    Shapes: (B, 3, H, W) in [0, 1] to the same.

    Args:
        encoder: name of a timm network; `pretrained=True` would fetch its ImageNet weights.
        width: channels of the decoder.
    """

    def __init__(self, encoder: str = "resnet10t", width: int = 32) -> None:
        super().__init__()
        self.encoder = timm.create_model(encoder, features_only=True, out_indices=(0, 1, 2), pretrained=False)
        self.stride = self.encoder.feature_info.reduction()[-1]
        depths = self.encoder.feature_info.channels()
        self.lateral = nn.ModuleList(nn.Conv2d(depth, width, 1) for depth in depths)
        self.merge = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in depths)
        self.stem = nn.Conv2d(3, width, 3, padding=1)  # the encoder starts at half size; details pass here
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.tail.weight)

    def forward(self, image: Tensor) -> Tensor:
        """Return the denoised image."""
        height, width = image.shape[2:]
        padded = F.pad(image, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        features = self.encoder(padded)
        x = self.lateral[-1](features[-1])
        for level in range(len(features) - 2, -1, -1):
            x = F.interpolate(x, scale_factor=2, mode="nearest") + self.lateral[level](features[level])
            x = self.merge[level](x).relu()
        x = F.interpolate(x, scale_factor=2, mode="nearest") + self.stem(padded)
        return (padded + self.tail(self.body(x.relu())))[:, :, :height, :width]


def train(steps: int, data: mg.ImageSet, task: mg.GaussianNoise) -> nn.Module:
    """Return a denoiser; yours has been trained long ago."""
    torch.manual_seed(0)
    model = UNet()
    config = TrainConfig(steps=steps, batch=8, lr=1e-3)
    fit(model, Patches(data, task, 64, 8 * steps), restoration(F.mse_loss), config, progress="training")
    return model.eval()


def main(folder: Path, steps: int, scheme: mg.TriggerKey) -> None:
    """Train, protect, save and verify; leave the result in `folder`."""
    task = mg.GaussianNoise(25)
    pictures = photos.load(3).images
    ours, theirs = mg.ImageSet(pictures[:9]), mg.ImageSet(pictures[9:])
    model = train(steps, ours, task)

    folder.mkdir(parents=True)
    owner = mg.Owner.create(folder / "acme.pem", name="Acme Imaging", passphrase=PASSPHRASE)
    protected = mg.protect(model, scheme, data=ours, test=theirs, owner=owner, task=task, progress=True)
    protected.save(folder / "protected", PASSPHRASE)
    print(protected.report)
    print(mg.verify(protected.model, protected.key, label="our own copy"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("own"), help="new folder (default: own)")
    parser.add_argument("--steps", type=int, default=600, help="training steps (default: 600)")
    given = parser.parse_args()
    try:
        main(given.folder, given.steps, mg.TriggerKey())
    except mg.ModelGuardError as error:
        raise SystemExit(error.diagnostics()) from error
