"""Protect a model of your own: a U-Net with an encoder from timm, trained and marked on the CPU in minutes.

    pip install 'modelguard-sdk[timm]'
    python examples/own_model.py FOLDER

Any other nn.Module that maps (B, C, H, W) in [0, 1] to the same size, or to a whole multiple of it, goes the
same way.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import modelguard as mg
from modelguard import photos
from modelguard.datasets import Patches
from modelguard.networks import TimmUNet
from modelguard.training import TrainConfig, fit, restoration

PASSPHRASE = "for this example only"


def train(steps: int, data: mg.ImageSet, task: mg.GaussianNoise) -> nn.Module:
    """Return a denoiser; yours has been trained long ago."""
    torch.manual_seed(0)
    model = TimmUNet()
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
