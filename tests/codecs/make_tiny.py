"""Train the small codec that the tests use, in a minute: `python tests/codecs/make_tiny.py`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from modelguard import photos, weights
from modelguard.benchmarks.train_dbmark import LIGHT, Covers, hiding
from modelguard.distortions import Blur, Grey
from modelguard.networks.dbmark import DBMarkNet
from modelguard.training import TrainConfig, fit

if __name__ == "__main__":
    torch.manual_seed(0)
    sizes = replace(LIGHT, side=32, levels=1, blocks=2, growth=8, layers=2, width=16, se_blocks=1)
    config = TrainConfig(steps=900, batch=16, lr=4e-3, lr_end=1e-4, spike=1000.0)
    net = DBMarkNet(sizes)
    covers = Covers(photos.load(3), sizes.side, config.steps * config.batch, 0)
    fit(net, covers, hiding(sizes.bits, [nn.Identity(), Blur(0.7), Grey()], 24.0), config, progress="tiny")
    about = {"use": "tests only; hides bits visibly", "sizes": asdict(sizes), "training": asdict(config)}
    weights.publish(
        net, "tiny", about, Path(__file__).parent, config={"dbmark": asdict(sizes), "name": "tiny"}
    )
