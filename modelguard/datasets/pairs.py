"""A fixed set of image pairs, drawn from again and again."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from modelguard.datasets.seeds import mixed_seed
from modelguard.errors import InputError


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """`length` random draws, each a pure function of (seed, index), from 8-bit pairs held in memory.

    Args:
        inputs: uint8 (N, C, h, w).
        targets: uint8 (N, C, H, W).
        length: how many draws there are.
        seed: another seed, other draws.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, length: int, seed: int = 0) -> None:
        if len(inputs) != len(targets) or not len(inputs):
            raise InputError(
                f"inputs, targets: {len(inputs)} and {len(targets)} images are no pairs",
                "give as many of one as of the other",
            )
        self.inputs, self.targets, self.length, self.seed = inputs, targets, length, seed

    def __len__(self) -> int:
        """Return the number of draws."""
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (input, target) of draw `index` as floats in [0, 1]."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, index))
        pick = int(torch.randint(len(self.inputs), (1,), generator=generator))
        return self.inputs[pick].float() / 255, self.targets[pick].float() / 255
