"""Self-watermarking: a model that has learnt its own barrier (Zhang et al., 3.4.6), with a keyed mark."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.datasets import ImageSet, Patches, Task
from modelguard.errors import check_above_zero, check_counts
from modelguard.evidence import Decoder, Key
from modelguard.schemes import odd_filters
from modelguard.schemes.barrier import Barrier, check_images
from modelguard.schemes.base import Contract, EmbedReport, probe
from modelguard.training import Backward, TrainConfig, channels_last, fit, teacher_answer

WEIGHT = 1e4
"""Of the squared error, so that its gradients are far from where Adam takes them for nothing."""


@dataclass(frozen=True)
class SelfWatermark:
    """Teach a model to mark its own answers to all photos, as `Barrier` would behind it.

    The marked model is of the host's own architecture and costs nothing more; nothing in its file shows the
    mark. It is read from photos like a barrier's, and thieves who train on its answers learn it too.

    Args:
        leaves: committed leaves of 192 bits, all of them in every answer; see `Barrier`.
        amplitude: strength of the barrier that is learnt; see `Barrier`.
        steps: fine-tuning steps.
        batch: patches a step; every other one is clean, as queries are, unless the host enlarges.
        patch: side of a patch in output pixels.
        lr: peak learning rate.
        seed: of data order.
    """

    leaves: int = 1
    amplitude: float = 7.0
    steps: int = 600
    batch: int = 8
    patch: int = 64
    lr: float = 6e-4
    seed: int = 0

    decoder: ClassVar[Decoder] = odd_filters.DECODER

    def __post_init__(self) -> None:
        check_counts(leaves=self.leaves, steps=self.steps, batch=self.batch, patch=self.patch)
        check_above_zero(amplitude=self.amplitude, lr=self.lr)

    def public(self, contract: Contract) -> dict[str, int | str]:
        """Return the public parameters for a host of this contract; InputError for a `FilmStrip`."""
        check_images(contract, "SelfWatermark")
        return odd_filters.public(channels=contract.channels, scale=contract.scale, inside=True)

    def embed(
        self, host: nn.Module, key: Key, images: ImageSet, task: Task, progress: str | None = None
    ) -> EmbedReport:
        """Mark `host` in place.

        Args:
            host: any module that maps (B, C, H, W) to (B, C, sH, sW).
            key: fresh; all its leaves are embedded.
            images: ordinary clean images.
            task: makes the host's inputs from them.
            progress: label of a progress bar.

        Raises:
            InputError: an image is smaller than a patch.
            ModelContractError: the host does not take patches of this size.
            TrainingDivergedError: see `modelguard.training.fit`.
        """
        host.eval()
        data = Patches(images, task, self.patch, 2**31, self.seed)
        probe(host, data[0][0])
        barred = Barrier(self.leaves, self.amplitude).attach(copy.deepcopy(host), key)
        config = TrainConfig(
            steps=self.steps, batch=self.batch, lr=self.lr, warmup=20, seed=self.seed, optimiser="muon"
        )
        objective = _Absorbing(barred, clean=int(key.scheme["scale"]) == 1)
        result = fit(host, data, objective, config, progress=progress)
        host.eval()
        return EmbedReport(result.steps, result.seconds, result.rollbacks, result.scalars)


class _Absorbing:
    """Hold a model's answers to those of the unmarked one behind its barrier.

    Args:
        barred: the unmarked host and the barrier.
        clean: whether every other input is a clean photo, which a host that enlarges cannot be given.
    """

    def __init__(self, barred: nn.Module, *, clean: bool) -> None:
        self.teacher, self.clean = channels_last(barred.eval().requires_grad_(False)), clean

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        """Take one step's gradients; see `modelguard.training.Objective`."""
        inputs, targets = batch
        if self.clean:
            inputs = torch.cat([inputs[::2], targets[1::2]])
        error = F.mse_loss(model(inputs), teacher_answer(self.teacher, inputs))
        loss = WEIGHT * error
        backward(loss)
        return {"loss": loss, "error": error}
