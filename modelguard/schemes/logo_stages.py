"""The losses of `logo_training`, stage by stage: eq. 4-14 of Zhang et al. (TPAMI 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.networks import bicubic
from modelguard.schemes.logo_barrier import Embedder, Extractor, LogoBarrier, rounded
from modelguard.training import Backward, Objective, teacher_answer
from modelguard.training.losses import Perceptual, least_squares_gan

BLANK = 1.0
"""What R shall give for images without a mark: white."""


@dataclass(frozen=True)
class Weights:
    """Weights of the losses; every term is a mean over pixels, and the defaults are the paper's.

    Args:
        l2, perceptual, adversarial: of the embedding loss, eq. 5.
        mark, clean, consistency: of the extracting loss, eq. 11.
        extracting: lambda of eq. 4, extracting against embedding.
    """

    l2: float = 1.0
    perceptual: float = 1.0
    adversarial: float = 0.01
    mark: float = 1.0
    clean: float = 1.0
    consistency: float = 1.0
    extracting: float = 1.0


class Initial(nn.Module):
    """H, R and D with the losses of the initial stage; the checkpoint of this module holds all three."""

    def __init__(
        self,
        embedder: Embedder,
        reader: nn.Module,
        judge: nn.Module,
        perceptual: Perceptual,
        rival: Embedder | None,
        weights: Weights,
        ramp: int,
    ) -> None:
        super().__init__()
        self.embedder, self.reader, self.judge = embedder, reader, judge
        self.frozen = perceptual, rival  # in a tuple: neither trained nor in the checkpoint
        self.weights, self.ramp = weights, ramp
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """Return losses of inputs A and images to mark B: "loss" of H and R, "judging" of D, and parts."""
        perceptual, rival = self.frozen
        marks, logo = _draw(self.embedder, b)
        marked = rounded(self.embedder(b, marks))
        found = [self.reader(x) for x in (marked, *_overwritten(rival, marked))]
        blanks = [self.reader(x) for x in (a, b, *_overwritten(rival, b))]
        extracting, parts = _extracting(found, logo, blanks, self.weights)
        fooling, judging = least_squares_gan(self.judge, b, marked)
        l2 = F.mse_loss(marked, b)
        embedding = (
            self.weights.l2 * l2
            + self.weights.perceptual * perceptual.to(b.device)(marked, b)
            + self.weights.adversarial * fooling
        )
        share = (self.steps / self.ramp).clamp(max=1) if self.ramp else torch.ones_like(self.steps)
        self.steps += 1
        loss = share * embedding + self.weights.extracting * extracting
        return {"loss": loss, "l2": l2, "judging": judging, **parts}


class Adversarial(nn.Module):
    """R and C with the losses of the adversarial stage; H and the proxies stay as they are."""

    def __init__(
        self,
        embedder: Embedder,
        extractor: Extractor,
        proxies: Sequence[nn.Module],
        innocents: Sequence[nn.Module],
        rival: Embedder | None,
        weights: Weights,
    ) -> None:
        super().__init__()
        self.extractor, self.weights = extractor, weights
        self.frozen = embedder, proxies, innocents, rival

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """Return the losses, "loss" for their sum, of inputs A and images to mark B."""
        embedder, proxies, innocents, rival = self.frozen
        marks, logo = _draw(embedder.to(b.device), b)
        with torch.no_grad():
            marked = rounded(embedder(b, marks))
            images = marked, rounded(_stolen(proxies, marks, a, b)), *_overwritten(rival, marked)
            own_work = (rounded(_answer(innocent, a, b)) for innocent in innocents)
            clean = a, b, *_overwritten(rival, b), *own_work
        found, blanks = ([self.extractor.net(x) for x in group] for group in (images, clean))
        extracting, parts = _extracting(found, logo, blanks, self.weights)
        naming = torch.stack(
            [self._naming(picture, marks + 1) for picture in found]
            + [self._naming(picture, torch.zeros_like(marks)) for picture in blanks]
        ).sum()
        return {"loss": extracting + naming, "naming": naming, **parts}

    def _naming(self, picture: Tensor, classes: Tensor) -> Tensor:
        """Return the loss of C, eq. 14; it does not reach R, which only the extracting loss refines."""
        return F.cross_entropy(self.extractor.classifier(picture.detach().clamp(0, 1)), classes)


def _extracting(
    found: list[Tensor], logo: Tensor, blanks: list[Tensor], weights: Weights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the extracting loss, eq. 9-12, and its parts.

    Consistency is the mean over pairs of R's errors, not of its pictures: the same for one logo, and it
    makes sense for several.
    """
    errors = torch.cat([picture - logo for picture in found])
    mark = len(found) * errors.square().mean()
    clean = torch.stack([(picture - BLANK).square().mean() for picture in blanks]).sum()
    consistency = 2 * (errors - errors.mean(0)).square().mean()
    loss = weights.mark * mark + weights.clean * clean + weights.consistency * consistency
    return loss, {"mark": mark, "clean": clean, "consistency": consistency}


def _draw(embedder: Embedder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return a random number of a logo for each image, and the logos themselves."""
    marks = torch.randint(len(embedder.logos), (len(images),), device=images.device)
    return marks, embedder.logo(marks, *images.shape[-2:])


def _overwritten(rival: Embedder | None, images: Tensor) -> list[Tensor]:
    """Return the images with a random logo of the rival in each; nothing without a rival."""
    if rival is None:
        return []
    others, _ = _draw(rival.to(images.device), images)
    return [rounded(rival(images, others))]


def _stolen(proxies: Sequence[nn.Module], marks: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return B'': for each input the answer of the proxy that learnt from its logo."""
    stolen = torch.empty_like(b)
    for number, proxy in enumerate(proxies):
        chosen = marks == number
        if chosen.any():
            stolen[chosen] = _answer(proxy, a[chosen], b)
    return stolen


def total(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
    """Train one of the stages above: an `Objective`.

    The loss of D is no part of "loss": it jumps when H outwits D, which is no reason to roll back.
    """
    scalars: dict[str, Tensor] = model(*batch)
    backward(scalars["loss"] + scalars.get("judging", 0.0))
    return scalars


def imitate(embedder: Embedder | None, mark: int = 0) -> Objective:
    """Return the objective of a proxy surrogate: L2 to marked images, from inputs; to B itself without H."""
    marking = nn.Identity() if embedder is None else LogoBarrier(nn.Identity(), embedder, mark).eval()

    def step(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        a, b = batch
        loss = F.mse_loss(model(_enlarged(a, b)), rounded(teacher_answer(marking, b)))
        backward(loss)
        return {"loss": loss}

    return step


def _answer(net: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Return what a frozen surrogate makes of inputs, in the type of B."""
    made: Tensor = net.to(b.device)(_enlarged(a, b))
    return made.to(b.dtype)


def _enlarged(a: Tensor, b: Tensor) -> Tensor:
    """Return the inputs at the size of the outputs, for a super-resolving task."""
    return a if a.shape == b.shape else bicubic(a, (b.shape[-2], b.shape[-1])).clamp(0, 1)
