"""What each process of a data-parallel run of `logo_training` does; writes what it got to FOLDER/RANK.txt."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import torch

from modelguard import photos
from modelguard.datasets import GaussianNoise
from modelguard.schemes.logo_barrier import Sizes
from modelguard.schemes.logo_training import LogoTraining, train
from modelguard.training import TrainConfig
from modelguard.weights import dump_state

if __name__ == "__main__":
    folder, stage = Path(sys.argv[1]), TrainConfig(steps=3, batch=2, warmup=1, precision="fp32")
    config = LogoTraining(
        size=32,
        pairs=8,
        sizes=Sizes(levels=2, width=4, extractor=4, discriminator=4),
        initial=stage,
        proxy=stage,
        adversarial=stage,
        features="gradients",
    )
    logos = [torch.zeros(1, 16, 16), torch.eye(16)[None]]
    trained = train(logos, photos.load(), GaussianNoise(25), config, run_dir=folder / "run")
    weights = hashlib.sha256(dump_state(trained.extractor)).hexdigest()
    (folder / f"{os.environ['RANK']}.txt").write_text(f"{trained.embedder.pair} {weights}")
