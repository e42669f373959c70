"""Train the small RIIS codec that the tests use, in minutes: `python tests/codecs/make_tiny_riis.py`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from modelguard import photos, weights
from modelguard.benchmarks.train_riis import Groups, Weights, any_distortion, hiding
from modelguard.networks.riis import RIISNet, RIISSizes
from modelguard.training import TrainConfig, fit

if __name__ == "__main__":
    torch.manual_seed(0)
    sizes = RIISSizes(
        secrets=2, blocks=3, growth=8, layers=2, projection=1, features=8, enhancement=3, width=8
    )
    config = TrainConfig(steps=300, batch=6, lr=4e-3, lr_end=2e-4, warmup=20, precision="fp32")
    net = RIISNet(sizes)
    groups = Groups(photos.load(3), sizes.secrets, 32, config.steps * config.batch, 0)
    some = torch.stack([groups[n][0] for n in range(32)])
    net.initialise(some[:, 0], some[:, 1:])
    fit(net, groups, hiding(any_distortion, Weights(container=1.0)), config, progress="tiny")
    about = {"use": "tests only; hides visibly", "sizes": asdict(sizes), "training": asdict(config)}
    config_of = {"riis": asdict(sizes), "name": "tiny"}
    weights.publish(net, "tiny-riis", about, Path(__file__).parent, config=config_of)
