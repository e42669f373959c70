"""The surrogate attack: a thief who only sees a service's answers trains a network of his own on them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.attacks.base import Loot
from modelguard.attacks.stolen_pairs import AUGMENTATIONS, StolenPatches, mark_truth, query
from modelguard.datasets import ImagePairs
from modelguard.errors import InputError, check_above_zero, check_counts
from modelguard.metrics import pair_quality
from modelguard.networks import PatchGAN, Upscaled, device_of
from modelguard.networks.surrogates import builder
from modelguard.training import Backward, EarlyStopping, Objective, Optimiser, TrainConfig, fit
from modelguard.training.losses import Perceptual, least_squares_gan

WEIGHTS: Mapping[str, float] = {
    "l1": 1.0,
    "l2": 10.0,  # as strong as l1 where images differ by 13 grey levels
    "perceptual": 1.0,
    "gradients": 10.0,
    "adversarial": 0.005,  # beside l1 as in pix2pix
}
"""The weights of the losses, which are means over pixels or features of images in [0, 1]."""


@dataclass(frozen=True)
class Stolen:
    """A thief's network and how it came about.

    Args:
        model: the network at its best on held-out pairs, in evaluation mode on the CPU.
        steps: it was trained for.
        best_step: after which it was best.
        history: PSNR in dB to held-out answers at each check.
        seconds: the training took, since it was last resumed.
    """

    model: nn.Module
    steps: int
    best_step: int
    history: Mapping[int, float]
    seconds: float


@dataclass(frozen=True)
class Surrogate:
    """Trains a fresh network on the answers of the model, until it no longer improves.

    The thief asks with 8-bit images and gets 8-bit images. He holds out every tenth pair, at most 20, checks
    the PSNR to the answers there, and keeps his best weights. With "adversarial", his network and a PatchGAN
    are trained at once. In one process.

    Args:
        network: name of an architecture; see `modelguard.networks.surrogate`.
        loss: "l1", "l2", "perceptual" (VGG-16; its weights must be in the local cache), "gradients" (our
            substitute, without weights) and "adversarial", or several joined by "+".
        augmentation: "none", "all", or some of "flips", "crop", "resize" and "jpeg" joined by "+"; see
            `StolenPatches`.
        share: part of the pairs that he has.
        target: what he learns: "output", the model's answers, or "truth", the clean images passed through
            `mark`, as the paper does.
        steps: optimiser steps at most.
        patience: checks in a row without improvement after which he stops.
        check_every: steps between checks, and between checkpoints.
        batch: patches a step.
        patch: side of a patch of the question in pixels.
        lr: peak learning rate; falls to a hundredth by a cosine.
        optimiser: "muon" gets a network farther in as many steps; "adam" wants a third of its rate.
        seed: of weights, patches and the choice of pairs.
        start: a network to go on from, such as one with a pretrained encoder; `network` is then but its name.
        mark: takes and returns (1, C, H, W) in [0, 1]; for the target "truth".
        progress: label of a progress bar; None for silence.

    Raises:
        InputError: a setting is out of range or unknown.
        WeightsError: the perceptual loss has no VGG-16 weights.
    """

    network: str = "unet"
    loss: str = "l1"
    augmentation: str = "none"
    share: float = 1.0
    target: Literal["output", "truth"] = "output"
    steps: int = 20_000
    patience: int = 10
    check_every: int = 500
    batch: int = 16
    patch: int = 128
    lr: float = 3e-3
    optimiser: Optimiser = "muon"
    seed: int = 0
    start: nn.Module | None = field(default=None, compare=False)
    mark: Callable[[Tensor], Tensor] | None = field(default=None, compare=False)
    progress: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_counts(
            steps=self.steps,
            patience=self.patience,
            check_every=self.check_every,
            batch=self.batch,
            patch=self.patch,
        )
        if not 0 < self.share <= 1:
            raise InputError(f"share: {self.share} is no part of the pairs", "use a number above 0, up to 1")
        check_above_zero(lr=self.lr)
        if self.losses <= {"adversarial"}:
            raise InputError(f"loss: {self.loss!r} alone shows no way", "join it: l1+adversarial")
        if self.target not in ("output", "truth"):
            raise InputError(f"target: {self.target!r} is not known", "use output or truth")
        if (self.target == "truth") != (self.mark is not None):
            raise InputError(
                f"mark: {'none' if self.mark is None else 'one'} for the target {self.target!r}",
                "give one for the target truth, and only for it",
            )
        _ = self.augmentations, _measures(self.losses), self._config
        if self.start is None:
            builder(self.network)

    @property
    def losses(self) -> frozenset[str]:
        """The terms of the loss."""
        return _terms("loss", self.loss, tuple(WEIGHTS))

    @property
    def augmentations(self) -> frozenset[str]:
        """The terms of the augmentation."""
        named = {"none": frozenset[str](), "all": frozenset(AUGMENTATIONS)}
        if self.augmentation in named:
            return named[self.augmentation]
        return _terms("augmentation", self.augmentation, AUGMENTATIONS)

    @property
    def name(self) -> str:
        """Name in tables and of files: network, loss, augmentation; share and target where not usual."""
        share = "" if self.share == 1 else f"_share{self.share:.4g}"
        return f"{self.network}_{self.loss}_{self.augmentation}{share}{'_truth' * (self.target == 'truth')}"

    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        """Return the thief's network, in evaluation mode on the device of `model`; see `train` for errors."""
        return self.train(self.gather(model, loot)).model.to(device_of(model))

    def gather(self, model: nn.Module, loot: Loot) -> ImagePairs:
        """Return all pairs there are to learn from: see `query` and `mark_truth`."""
        return query(model, loot) if self.mark is None else mark_truth(self.mark, loot)

    def train(self, pairs: ImagePairs, *, run_dir: Path | None = None, resume: bool = False) -> Stolen:
        """Train on a share of `pairs` and return the best network.

        Args:
            pairs: questions and answers.
            run_dir: where checkpoints go; None keeps nothing on disk.
            resume: go on from what is in `run_dir`, to the same network as without a break.

        Raises:
            InputError: too few pairs, patches larger than an image, or too small for a critic.
            TrainingDivergedError: the loss stayed non-finite or exploding.
        """
        data, held_out = self.data(pairs)
        scale, channels = data.scale, pairs.inputs[0].shape[0]
        thief = _Thief(self.fresh(channels, scale), self._critic(channels)).train()
        border = scale if scale > 1 else 0
        stopping = EarlyStopping(
            lambda one: pair_quality(one.get_submodule("net"), held_out, border=border).psnr,
            self.patience,
            run_dir,
            resume,
        )
        steps, seconds = max(stopping.history, default=0), 0.0
        if not stopping.exhausted:
            result = fit(
                thief,
                data,
                _objective(self.losses),
                self._config,
                run_dir=run_dir,
                resume=resume,
                progress=self.progress,
                on_checkpoint=stopping,
            )
            steps, seconds = result.steps, result.seconds
        stopping.restore(thief)
        model = thief.net.cpu().eval().to(memory_format=torch.contiguous_format)
        return Stolen(model, steps, stopping.best_step, stopping.history, seconds)

    @property
    def _config(self) -> TrainConfig:
        return TrainConfig(
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            lr_end=self.lr / 100,
            warmup=min(100, self.steps // 10),
            seed=self.seed,
            checkpoint_every=self.check_every,
            optimiser=self.optimiser,
        )

    def data(self, pairs: ImagePairs) -> tuple[StolenPatches, ImagePairs]:
        """Return the patches that are learnt and the pairs held out; see `train` for errors."""
        kept, held_out = self._split(pairs)
        data = StolenPatches(kept, self.patch, self.augmentations, 2**31, self.seed)
        if "adversarial" in self.losses and self.patch * data.scale < 32:
            raise InputError(f"patch: {self.patch} px are too few to judge", "use 32 or more")
        return data, held_out

    def count(self, pairs: ImagePairs) -> int:
        """Return how many of `pairs` are his, with those that he holds out."""
        return math.ceil(self.share * len(pairs))

    def _split(self, pairs: ImagePairs) -> tuple[ImagePairs, ImagePairs]:
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(self.seed)).tolist()
        own = sorted(order[: self.count(pairs)])
        if len(own) < 2:
            raise InputError(
                f"images: {len(own)} of {len(pairs)} is too few for a thief",
                "give two or more; some are held out to see when training no longer helps",
            )
        every = min(10, len(own))
        return pairs.pick([n for at, n in enumerate(own) if at % every]), pairs.pick(own[::every][:20])

    def fresh(self, channels: int, scale: int) -> nn.Module:
        """Return the thief's network before training, for images of so many channels and an enlargement."""
        if self.start is not None:
            return copy.deepcopy(self.start).requires_grad_(True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = builder(self.network)(channels)
        return net if scale == 1 else Upscaled(net, scale)

    def _critic(self, channels: int) -> nn.Module | None:
        if "adversarial" not in self.losses:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            return PatchGAN(channels)


class _Thief(nn.Module):
    """A network and its rival, if any, in one module, so that one optimiser and one checkpoint serve both."""

    def __init__(self, net: nn.Module, critic: nn.Module | None) -> None:
        super().__init__()
        self.net, self.critic = net, critic

    def forward(self, question: Tensor, truth: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the answer, and the losses of the network and of its rival."""
        answer: Tensor = self.net(question)
        if self.critic is None:
            return answer, None, None
        return answer, *least_squares_gan(self.critic, truth, answer)


Measure = Callable[[Tensor, Tensor], Tensor]


def _measures(terms: frozenset[str]) -> dict[str, Measure]:
    makers: dict[str, Callable[[], Measure]] = {
        "l1": lambda: F.l1_loss,
        "l2": lambda: F.mse_loss,
        "perceptual": lambda: Perceptual("vgg16"),
        "gradients": lambda: Perceptual("gradients"),
    }
    return {name: make() for name, make in makers.items() if name in terms}


def _objective(terms: frozenset[str]) -> Objective:
    measures = _measures(terms)

    def step(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        question, truth = batch
        answer, fooling, judging = model(question, truth)
        losses = [
            WEIGHTS[name] * _on(measure, answer)(answer.float(), truth) for name, measure in measures.items()
        ]
        if fooling is not None:
            losses += [WEIGHTS["adversarial"] * fooling, judging]
        loss = torch.stack(losses).sum()
        backward(loss)
        return {"loss": loss}

    return step


def _on(measure: Measure, answer: Tensor) -> Measure:
    return measure.to(answer.device) if isinstance(measure, nn.Module) else measure


def _terms(name: str, text: str, known: tuple[str, ...]) -> frozenset[str]:
    terms = text.split("+")
    unknown = [term for term in terms if term not in known]
    if unknown or len(set(terms)) < len(terms):
        raise InputError(
            f"{name}: {text!r} holds {unknown[0] if unknown else 'one term twice'}",
            f"join some of {', '.join(known)} by +",
        )
    return frozenset(terms)
