"""The trigger key exactly as Quan et al. print it: for re-running their tables, never for a verdict.

Its rule accepts strangers' keys and even an identity service (see docs/trigger-key.md), which is why
`TriggerKey` keys the response. Open points of the paper are decided as `response` and `embed` say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.datasets import ImageSet, Patches, Task
from modelguard.errors import InputError
from modelguard.networks import evaluating
from modelguard.statistics import distance, ncc
from modelguard.training import Backward, TrainConfig, TrainResult, fit


@dataclass(frozen=True, eq=False)
class PaperKey:
    """A trigger K and its verification image S, (1, 1, H, W) floats; S is updated to M(K) after embedding."""

    trigger: Tensor
    verification: Tensor


def trigger(size: int, seed: int) -> Tensor:
    """Return K ~ U(0, 1) of (1, 1, size, size), eq. 1."""
    if size < 2:
        raise InputError(f"size: {size} px is no trigger", "the paper uses 20 to 600")
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed))


def response(key: Tensor, scale: int = 1) -> Tensor:
    """Return S = G(K): K minus its gradient for denoising (eq. 2), up(K) plus its gradient for SR (eq. 3).

    The gradient is the forward difference along rows, zero at the border, and nothing is normalised: with the
    paper's min-max normalisation unmarked models pass its threshold. Up-sampling is bilinear.
    """
    if scale > 1:
        key = F.interpolate(key, scale_factor=scale, mode="bilinear", align_corners=False)
    gradient = F.pad(key[..., 1:] - key[..., :-1], (0, 1))
    return key + gradient if scale > 1 else key - gradient


@dataclass(frozen=True)
class PaperEmbedding:
    """Settings of the fine-tuning, eq. 4-7 with sums.

    Args:
        weight: lambda, 1e-3 in the paper.
        steps: of fine-tuning; the paper runs 8 epochs.
        batch: patches a step.
        patch: side of a patch.
        lr: peak of Adam, 1e-3 in the paper.
        seed: of the patches.
    """

    weight: float = 1e-3
    steps: int = 300
    batch: int = 16
    patch: int = 40
    lr: float = 1e-3
    seed: int = 0


def embed(
    host: nn.Module,
    key: PaperKey,
    images: ImageSet,
    task: Task,
    config: PaperEmbedding,
    progress: str | None = None,
) -> tuple[PaperKey, TrainResult]:
    """Fine-tune `host` in place and return the key with S updated to M(K).

    Batch norm stays in evaluation mode, as the trigger is verified. The loss is
    1/(2B) sum ||M(X) - Y||^2 + lambda ||M(K) - S||^2.
    """

    def objective(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        inputs, targets = batch
        task_loss = (model(inputs) - targets).square().sum() / (2 * len(inputs))
        mark_loss = (model(key.trigger.to(inputs.device)) - key.verification.to(inputs.device)).square().sum()
        loss = task_loss + config.weight * mark_loss
        backward(loss)
        return {"loss": loss, "mark": mark_loss}

    host.eval()
    patches = Patches(images, task, config.patch, 2**31, config.seed)
    training = TrainConfig(
        steps=config.steps,
        batch=config.batch,
        lr=config.lr,
        warmup=20,
        clip=10.0,
        seed=config.seed,
        spike=100.0,
    )
    result = fit(host, patches, objective, training, progress=progress)
    return PaperKey(key.trigger, answer(host, key.trigger)), result


def answer(host: nn.Module, query: Tensor) -> Tensor:
    """Return M(K), unrounded as in the paper, on the CPU."""
    with evaluating(host):
        out: Tensor = host(query.to(next(host.parameters()).device))
    return out.float().cpu()


def measure(host: nn.Module, key: PaperKey) -> tuple[float, float]:
    """Return (d of eq. 8, the paper's uncentred NCC) between M(K) and S, both clamped to [0, 1]."""
    given, wanted = (x.clamp(0, 1).double().numpy() for x in (answer(host, key.trigger), key.verification))
    return distance(given, wanted), ncc(given, wanted)


class Visualiser(nn.Module):
    """R of eq. 9: maps a verification image to a copyright picture it has memorised.

    The paper shows its layers only as a figure. This one is: linear map from the whole image, then two
    up-sampling convolutions, to a picture of `size` px.

    Args:
        side: of the verification image.
        size: of the picture, a multiple of 4.
    """

    def __init__(self, side: int, size: int = 64) -> None:
        super().__init__()
        if size < 4 or size % 4:
            raise InputError(f"size: {size} px is no multiple of 4", "crop or resize the picture")
        quarter = size // 4
        self.start = nn.Linear(side * side, 16 * quarter * quarter)
        self.quarter = quarter
        self.grow = nn.Sequential(
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 1, 3, padding=1),
        )

    def forward(self, verification: Tensor) -> Tensor:
        """Return (B, 1, size, size) for (B, 1, side, side)."""
        start = self.start(verification.flatten(1) - 0.5)
        picture: Tensor = self.grow(start.view(-1, 16, self.quarter, self.quarter))
        return picture


def visualise(verification: Tensor, picture: Tensor, steps: int = 300, seed: int = 0) -> Visualiser:
    """Train R to turn `verification` (1, 1, M, M) into `picture` (1, 1, P, P), eq. 9, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Visualiser(verification.shape[-1], picture.shape[-1])
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        (net(verification) - picture).square().sum().backward()
        optimiser.step()
    return net.eval()
