"""What a thief gathers: questions and answers of a service, and how he varies them in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.utils.data import Dataset

from modelguard.attacks.base import Loot
from modelguard.datasets import ImagePairs, mixed_seed, to_uint8
from modelguard.distortions import Jpeg
from modelguard.errors import InputError, ModelContractError
from modelguard.networks import bicubic
from modelguard.suspects import ModuleSuspect

AUGMENTATIONS = ("flips", "crop", "resize", "jpeg")
RESIZE, QUALITY = (0.7, 1.3), (50, 95)


def query(model: Module, loot: Loot, *, seed: int = 0) -> ImagePairs:
    """Ask `model` as a service is asked: 8-bit images in and out, each input of the thief's once.

    Args:
        model: used in evaluation mode and put back.
        loot: the thief's images, from which his task makes the questions.
        seed: of the task's noise.

    Raises:
        SuspectError: the model fails, or answers with something other than an image of as many channels.
        ModelContractError: it changes the size by other than a whole number.
    """
    questions = tuple(question for question, _ in questioned(loot, seed))
    pairs = ImagePairs(questions, answers(model, questions))
    scale_of(pairs)
    return pairs


def answers(model: Module, questions: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return what `model` answers to uint8 images (C, H, W), as such; see `query` for errors."""
    suspect, given = ModuleSuspect(model), []
    for question in questions:
        image = suspect.ask(np.ascontiguousarray(question.permute(1, 2, 0).numpy())).image
        assert image is not None  # a local model never refuses
        given.append(torch.from_numpy(image).permute(2, 0, 1).contiguous())
    return tuple(given)


def mark_truth(mark: Callable[[Tensor], Tensor], loot: Loot, *, seed: int = 0) -> ImagePairs:
    """Return the thief's inputs with their clean targets marked, which is what the paper lets him train on.

    Args:
        mark: takes and returns (1, C, H, W) in [0, 1].
        loot: his images and task.
        seed: of the task's noise.
    """
    pairs = questioned(loot, seed)
    with torch.no_grad():
        marked = [to_uint8(mark(clean[None])[0]).cpu() for _, clean in pairs]
    return ImagePairs(tuple(question for question, _ in pairs), tuple(marked))


def questioned(loot: Loot, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return the task's inputs in 8 bits, as uint8, and its targets, as floats."""
    made = (
        loot.task(clean, torch.Generator().manual_seed(mixed_seed(seed, number)))
        for number, clean in enumerate(loot.images)
    )
    return [(to_uint8(given), target) for given, target in made]


def scale_of(pairs: ImagePairs) -> int:
    """Return how many times the answers are larger than the questions.

    Raises:
        ModelContractError: by other than one whole number.
    """
    scales = {
        side / into
        for question, answer in zip(pairs.inputs, pairs.targets, strict=True)
        for side, into in zip(answer.shape[1:], question.shape[1:], strict=True)
    }
    scale = scales.pop() if len(scales) == 1 else 0.0
    if scale < 1 or scale != int(scale):
        raise ModelContractError(
            f"model: {tuple(pairs.inputs[0].shape[1:])} px came back as {tuple(pairs.targets[0].shape[1:])}",
            "a model must keep the size or enlarge both sides by the same whole number",
        )
    return int(scale)


class StolenPatches(Dataset[tuple[Tensor, Tensor]]):
    """`length` random patches of pairs, each a pure function of (seed, index).

    Without "crop", patches are whole tiles of a grid that starts in the upper left corner of each image, so
    that a patch as large as the images is the image.

    Args:
        pairs: questions and answers.
        size: side of the question's patch in pixels.
        augmentations: of "flips" (and quarter turns), "crop" (anywhere in the image), "resize" (a part of the
            image 1/1.3 to 1/0.7 as large as the patch, as far as the image reaches, resized to it; with
            "crop" anywhere) and "jpeg" (question and answer at one quality of 50 to 95).
        length: how many patches there are.
        seed: another seed, other patches.

    Raises:
        InputError: an image is smaller than a patch.
    """

    def __init__(
        self, pairs: ImagePairs, size: int, augmentations: frozenset[str], length: int, seed: int = 0
    ) -> None:
        smallest = min(min(image.shape[1:]) for image in pairs.inputs)
        if smallest < size:
            raise InputError(
                f"patch: an input has a side of {smallest} px, patches need {size}",
                "use smaller patches, or leave small images out",
            )
        self.pairs, self.size, self.augmentations = pairs, size, augmentations
        self.length, self.seed, self.scale = length, seed, scale_of(pairs)

    def __len__(self) -> int:
        """Return the number of patches."""
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (question, answer) of patch `index` as floats in [0, 1]."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, index))
        number, down, right, turns, mirror, quality = torch.randint(2**31, (6,), generator=generator).tolist()
        factor = RESIZE[0] + (RESIZE[1] - RESIZE[0]) * float(torch.rand((), generator=generator))
        question = self.pairs.inputs[number % len(self.pairs)]
        answer = self.pairs.targets[number % len(self.pairs)]
        side = round(self.size / factor) if "resize" in self.augmentations else self.size
        side = min(side, *question.shape[1:])
        top, left = (
            self._place(draw, whole, side)
            for draw, whole in zip((down, right), question.shape[1:], strict=True)
        )
        pair = [
            self._cut(image, top * scale, left * scale, side * scale, self.size * scale)
            for image, scale in ((question, 1), (answer, self.scale))
        ]
        if "flips" in self.augmentations:
            pair = [torch.rot90(one, turns % 4, (1, 2)) for one in pair]
            pair = [one.flip(2) if mirror % 2 else one for one in pair]
        if "jpeg" in self.augmentations:
            codec = Jpeg(QUALITY[0] + quality % (QUALITY[1] - QUALITY[0] + 1))
            pair = [codec(one[None])[0] for one in pair]
        return pair[0], pair[1]

    def _place(self, draw: int, whole: int, side: int) -> int:
        if "crop" in self.augmentations:
            return draw % (whole - side + 1)
        return min(draw % (whole // self.size) * self.size, whole - side)

    @staticmethod
    def _cut(image: Tensor, top: int, left: int, side: int, size: int) -> Tensor:
        patch = image[:, top : top + side, left : left + side].float() / 255
        return patch if side == size else to_uint8(bicubic(patch[None], (size, size))[0]).float() / 255
