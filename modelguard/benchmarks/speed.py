"""Training speed: the loop's own arithmetic against a plain fp32 loop, in one run, as a ratio."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer

from modelguard import networks
from modelguard.benchmarks import hosts, record
from modelguard.datasets import GaussianNoise, Patches
from modelguard.training import TrainConfig, fit, restoration


def main(
    train: hosts.Train,
    steps: Annotated[int, typer.Option(help="timed steps of each loop, per round")] = 15,
    rounds: Annotated[int, typer.Option(help="how often the two loops take turns")] = 3,
    out: record.Out = Path("docs/results"),
) -> None:
    """Time DnCNN training in images a second, alternating the two loops."""
    hosts.reproducible()
    patches = Patches(hosts.photos(train, 100), GaussianNoise(25), 40, 2**31)
    ours, plain = [], []
    for _ in range(rounds):
        config = TrainConfig(steps=steps, batch=32)
        ours.append(steps * 32 / fit(networks.DnCNN(), patches, restoration(F.mse_loss), config).seconds)
        plain.append(steps * 32 / _plain(patches, steps))
    row = {
        "loop_images_per_second": round(max(ours), 1),
        "plain_fp32_images_per_second": round(max(plain), 1),
        "ratio": round(max(ours) / max(plain), 2),
        "each_ours": [round(x, 1) for x in ours],
        "each_plain": [round(x, 1) for x in plain],
    }
    record.write("speed", out, row, seed=0, notes="DnCNN-17, 32 patches of 40 px a step; best of the rounds")


def _plain(patches: Patches, steps: int) -> float:
    """Return the seconds of an ordinary fp32 loop without channels-last."""
    net = networks.DnCNN()
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    began = time.monotonic()
    for step in range(steps):
        pairs = [patches[step * 32 + i] for i in range(32)]
        inputs, targets = (torch.stack(side) for side in zip(*pairs, strict=True))
        optimiser.zero_grad()
        torch.autograd.backward(F.mse_loss(net(inputs), targets))
        optimiser.step()
    return time.monotonic() - began


if __name__ == "__main__":
    typer.run(main)
