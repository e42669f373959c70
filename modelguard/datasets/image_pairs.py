"""Pairs of an input and what it should become, held as they were found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from modelguard.datasets.images import SUFFIXES, read_image, to_uint8
from modelguard.datasets.seeds import mixed_seed
from modelguard.errors import InputError


@dataclass(frozen=True)
class ImagePairs:
    """Inputs and targets of equal number, in memory as uint8 tensors (C, H, W).

    Indexing and iterating give floats in [0, 1].

    Args:
        inputs: degraded images, or what a service was asked.
        targets: what they should become, or what it answered.

    Raises:
        InputError: not as many of one as of the other.
    """

    inputs: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise InputError(
                f"pairs: {len(self.inputs)} inputs and {len(self.targets)} targets", "give one for each"
            )

    @classmethod
    def from_folders(cls, inputs: str | Path, targets: str | Path, channels: int = 3) -> ImagePairs:
        """Read images of the same name, but for the ending, in two folders.

        Args:
            inputs: folder of degraded images.
            targets: folder of clean ones.
            channels: 1 for luma, 3 for RGB.

        Raises:
            InputError: a folder is missing or empty, an image has no partner or another size than its
                partner, or is not readable.
        """
        degraded, clean = (_by_name(Path(folder)) for folder in (inputs, targets))
        alone = sorted(degraded.keys() ^ clean.keys())
        if alone:
            raise InputError(
                f"pairs: {alone[0]!r} is only in one of {inputs} and {targets}",
                "give two folders with the same names",
            )
        found = [
            tuple(to_uint8(read_image(folder[name], channels)) for folder in (degraded, clean))
            for name in sorted(degraded)
        ]
        for name, (one, two) in zip(sorted(degraded), found, strict=True):
            if one.shape != two.shape:
                raise InputError(
                    f"pairs: {name!r} is {tuple(one.shape[1:])} px in {inputs} and {tuple(two.shape[1:])} px "
                    f"in {targets}",
                    "give images of one size",
                )
        return cls(tuple(one for one, _ in found), tuple(two for _, two in found))

    def pick(self, numbers: Sequence[int]) -> ImagePairs:
        """Return the pairs of these numbers."""
        return ImagePairs(tuple(self.inputs[n] for n in numbers), tuple(self.targets[n] for n in numbers))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (input, target) number `index` as floats in [0, 1]."""
        return self.inputs[index].float() / 255, self.targets[index].float() / 255

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the pairs as floats in [0, 1]."""
        return (self[index] for index in range(len(self)))


class PairDraws(Dataset[tuple[Tensor, Tensor]]):
    """`length` random draws from pairs of one size, each a pure function of (seed, index).

    Args:
        pairs: at least one.
        length: how many draws there are.
        seed: another seed, other draws.
    """

    def __init__(self, pairs: ImagePairs, length: int, seed: int = 0) -> None:
        if not len(pairs):
            raise InputError("pairs: there are none to draw from", "give at least one")
        self.pairs, self.length, self.seed = pairs, length, seed

    def __len__(self) -> int:
        """Return the number of draws."""
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (input, target) of draw `index` as floats in [0, 1]."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, index))
        return self.pairs[int(torch.randint(len(self.pairs), (1,), generator=generator))]


def _by_name(folder: Path) -> dict[str, Path]:
    paths = [path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise InputError(f"pairs: there is no image in {folder}", "give a folder of images")
    return {path.stem: path for path in paths}
