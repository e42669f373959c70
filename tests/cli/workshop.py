"""What the tests of commands share: a module of small models, and what a command line gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PASSPHRASE = "correct horse"
MODELS = '''
import os, signal
import torch
from torch import nn
import torch.nn.functional as F

class Quick(nn.Conv2d):
    """Its weights count tenfold, so that it learns in a few steps at any learning rate."""
    def forward(self, x):
        return F.conv2d(x, 10 * self.weight, 10 * self.bias, padding=1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            Quick(1, 16, 3), nn.ReLU(), Quick(16, 16, 3), nn.ReLU(),
            Quick(16, 16, 3), nn.ReLU(), Quick(16, 1, 3),
        )
        with torch.no_grad():
            for p in self.parameters():
                p.div_(10)
            self.body[-1].weight.mul_(0.1)
    def forward(self, x):
        return x + 3 * self.body(x)

class Cropping(Net):
    def forward(self, x):
        return super().forward(x)[:, :, 1:]

class Broken(Net):
    def forward(self, x):
        return super().forward(x) / 0

class Interrupted(Net):
    """Somebody presses Ctrl-C in the fifth training step."""
    def forward(self, x):
        if torch.is_grad_enabled():
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 9:
                os.kill(os.getpid(), signal.SIGINT)
        return super().forward(x)

ready = Net()

def blur():
    return lambda image: image // 2 + image[::-1] // 2

def fails():
    raise RuntimeError("no such checkpoint")

def text():
    return "a model"
'''


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def everything_in(folder: Path) -> set[str]:
    """Return the names of all files below `folder`, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}
