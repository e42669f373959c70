"""What each process of `test_two_processes` runs; writes what it saw to FOLDER/RANK.json."""

from __future__ import annotations

import copy
import hashlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from modelguard.datasets import GaussianNoise, ImageSet, Patches
from modelguard.networks import DnCNN
from modelguard.training import Backward, TrainConfig, fit


class Objective:
    """Mean squared error that remembers its batches and interrupts one process at one call."""

    def __init__(self, interrupt_at: int = -1) -> None:
        self.interrupt_at = interrupt_at
        self.batches: list[float] = []

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        degraded, target = batch
        self.batches.append(float(degraded.sum()))
        loss = (model(degraded) - target).pow(2).mean()
        backward(loss)
        if len(self.batches) == self.interrupt_at and PartialState().process_index == 1:
            signal.raise_signal(signal.SIGINT)
        return {"loss": loss}


def digest(net: nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters())).hexdigest()


def main(folder: Path) -> None:
    torch.manual_seed(0)
    start = DnCNN(depth=3, width=4, batch_norm=False)
    whole, broken, resumed = (copy.deepcopy(start) for _ in range(3))
    ramp = torch.arange(24 * 24).reshape(1, 24, 24) / (24 * 24)
    patches = Patches(ImageSet.of([ramp]), GaussianNoise(25), 12, 1000)
    config = TrainConfig(steps=6, batch=2, precision="fp32")

    first, second = Objective(), Objective(interrupt_at=3)
    result = fit(whole, patches, first, config, run_dir=folder)
    interrupted = False
    try:
        fit(broken, patches, second, config, run_dir=folder / "broken")
    except KeyboardInterrupt:
        interrupted = True
    fit(resumed, patches, Objective(), config, run_dir=folder / "broken", resume=True)
    trained = digest(whole)
    fit(whole, patches, Objective(), TrainConfig(steps=3, batch=2, seed=1, precision="fp32"))

    short = TrainConfig(steps=6, batch=2, precision="fp32", checkpoint_every=2)
    ended = fit(copy.deepcopy(start), patches, Objective(), short, on_checkpoint=lambda net, step: step == 4)

    state = PartialState()
    seen = {
        "processes": state.num_processes,
        "backend": state.backend,
        "batches": first.batches,
        "loss": result.scalars["loss"],
        "weights": trained,
        "weights after another fit": digest(whole),
        "interrupted": interrupted,
        "steps until the interrupt": len(second.batches),
        "resumed": digest(resumed),
        "ended at": ended.steps,
    }
    (folder / f"{state.process_index}.json").write_text(json.dumps(seen))
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
