"""Fine-tuning: the thief goes on training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import nn

from modelguard.attacks.base import Loot, stolen
from modelguard.datasets import Patches
from modelguard.errors import check_above_zero, check_counts
from modelguard.training import TrainConfig, fit, restoration


@dataclass(frozen=True)
class FineTune:
    """Trains all weights on the thief's images: Adam at a constant rate on the mean squared error.

    Batch norm learns too. The rate stays as asked: nothing is rolled back, and a non-finite loss raises
    TrainingDivergedError.

    Args:
        steps: optimiser steps.
        batch: patches a step.
        lr: learning rate.
        patch: side of a patch in pixels.
        seed: of the patches.
        progress: label of a progress bar; None for silence.
    """

    steps: int = 2000
    batch: int = 32
    lr: float = 1e-4
    patch: int = 40
    seed: int = 0
    progress: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_counts(steps=self.steps, batch=self.batch, patch=self.patch)
        check_above_zero(lr=self.lr)

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"fine-tune {self.steps} steps"

    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        """Return a fine-tuned copy; raises InputError where an image is smaller than a patch."""
        copy = stolen(model).train().requires_grad_(True)
        patches = Patches(loot.images, loot.task, self.patch, 2**31, self.seed)
        config = TrainConfig(
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            lr_end=self.lr,
            warmup=0,
            seed=self.seed,
            spike=math.inf,
            rollbacks=0,
        )
        fit(copy, patches, restoration(nn.functional.mse_loss), config, progress=self.progress)
        return copy.to(next(model.parameters()).device).eval()
