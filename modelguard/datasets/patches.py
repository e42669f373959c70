"""Random training patches, each a pure function of (seed, index), so that training resumes exactly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from modelguard.datasets.images import ImageSet
from modelguard.datasets.seeds import mixed_seed
from modelguard.datasets.tasks import Task
from modelguard.errors import InputError


class Patches(Dataset[tuple[Tensor, Tensor]]):
    """`length` random square patches with flips and quarter turns, degraded by `task`.

    Args:
        images: the clean images.
        task: makes (input, target) from a clean patch.
        size: side of the clean patch in pixels.
        length: how many patches there are; item i is always the same patch.
        seed: another seed, other patches.
    """

    def __init__(self, images: ImageSet, task: Task, size: int, length: int, seed: int = 0) -> None:
        smallest = min(min(image.shape[1:]) for image in images.images)
        if smallest < size:
            raise InputError(
                f"data: an image has a side of {smallest} px, patches need {size}", "leave small images out"
            )
        self.images, self.task, self.size, self.length, self.seed = images, task, size, length, seed

    def __len__(self) -> int:
        """Return the number of patches."""
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (input, target) of patch `index`."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, index))
        pick = torch.randint(2**31, (5,), generator=generator).tolist()
        image = self.images.images[pick[0] % len(self.images)]
        top, left = pick[1] % (image.shape[1] - self.size + 1), pick[2] % (image.shape[2] - self.size + 1)
        patch = image[:, top : top + self.size, left : left + self.size].float() / 255
        patch = torch.rot90(patch, pick[3] % 4, (1, 2))
        return self.task(patch.flip(2) if pick[4] % 2 else patch, generator)
