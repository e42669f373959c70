"""Trigger-key marking (Quan et al., IEEE TNNLS 2021) with a keyed response.

The host is fine-tuned so that its answers to secret textures carry secret bits, while its answers to
ordinary inputs stay what they were. The paper's unkeyed response is in `paper_trigger`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelguard.datasets import ImageSet, Patches, Task
from modelguard.errors import InputError, check_above_zero, check_counts
from modelguard.evidence import Decoder, Key
from modelguard.schemes import keyed_cells
from modelguard.schemes.base import Contract, EmbedReport, probe
from modelguard.training import Backward, TrainConfig, channels_last, fit, teacher_answer


@dataclass(frozen=True)
class TriggerKey:
    """Mark a model's answers to secret textures.

    Args:
        leaves: committed leaves of 64 bits; each verification uses up those it asks.
        per_query: leaves in the mosaic of one query; 4 carry 256 bits. In a clip they go from frame to frame,
            as many in each; frames left over are grey.
        steps: fine-tuning steps.
        batch: ordinary patches a step, whose answers are held to the unmarked host's.
        patch: side of a patch in output pixels.
        lr: peak learning rate.
        amplitude: least RMS of a carrier in a marked cell, images in [0, 1]; training pushes no further.
        fidelity: weight of the mean squared change of ordinary answers, from a tenth at first to double.
        perturb: relative size of the random weight noise under which the mark must hold in half the steps.
        prune: largest share of weights pruned, under which the mark must hold in half the steps.
        seed: of data order and perturbations.
    """

    leaves: int = 8
    per_query: int = 4
    steps: int = 700
    batch: int = 8
    patch: int = 40
    lr: float = 6e-4
    amplitude: float = 0.12
    fidelity: float = 10000.0
    perturb: float = 0.0
    prune: float = 0.0
    seed: int = 0

    decoder: ClassVar[Decoder] = keyed_cells.DECODER

    def __post_init__(self) -> None:
        if not 1 <= self.per_query <= min(self.leaves, 16):
            raise InputError(
                f"per_query: {self.per_query} of {self.leaves} leaves",
                "ask 1 to 16 leaves a query, no more than there are",
            )
        check_counts(steps=self.steps, batch=self.batch, patch=self.patch)
        check_above_zero(lr=self.lr, amplitude=self.amplitude)
        for name in ("fidelity", "perturb"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: {getattr(self, name)} is out of range", "use 0 or more")
        if not 0 <= self.prune < 1:
            raise InputError(f"prune: {self.prune} is no share of the weights", "use 0 to less than 1")

    def public(self, contract: Contract) -> dict[str, int | str]:
        """Return the public parameters for a host of this contract."""
        return keyed_cells.public(
            channels=contract.channels,
            scale=contract.scale,
            per_query=self.per_query,
            frames=contract.frames,
        )

    def embed(
        self, host: nn.Module, key: Key, images: ImageSet, task: Task, progress: str | None = None
    ) -> EmbedReport:
        """Mark `host` in place.

        Batch norm is held in evaluation mode, as the mark is verified. Ordinary answers are held to those of
        the unmarked host, so no ground truth is needed; `task` only makes inputs from `images`.

        Args:
            host: any module that maps (B, C, H, W) to (B, C, sH, sW), or a `FilmStrip`.
            key: fresh; all its leaves are embedded.
            images: ordinary clean images.
            task: makes the host's inputs from them.
            progress: label of a progress bar.

        Raises:
            InputError: an image is smaller than a patch.
            ModelContractError: the host does not take patches of this size, or the query.
            TrainingDivergedError: see `modelguard.training.fit`.
        """
        host.eval()
        data = Patches(images, task, self.patch, 2**31, self.seed)
        objective = MarkObjective(self, key, copy.deepcopy(host))
        probe(host, data[0][0])
        probe(host, objective.query(torch.arange(self.per_query))[0], ordinary=False)
        config = TrainConfig(
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            warmup=20,
            seed=self.seed,
            optimiser="muon",
        )
        result = fit(host, data, objective, config, progress=progress)
        host.eval()
        return EmbedReport(result.steps, result.seconds, result.rollbacks, result.scalars)


class MarkObjective:
    """Hold ordinary answers to the unmarked host's, and push every cell's score past the amplitude.

    Args:
        config: of the scheme.
        key: whose leaves are embedded.
        teacher: the unmarked host, frozen here.
    """

    def __init__(self, config: TriggerKey, key: Key, teacher: nn.Module) -> None:
        self.config, self.scheme = config, key.scheme
        self.teacher = channels_last(teacher.eval().requires_grad_(False))
        secrets = [key.leaf(index) for index in range(key.leaves)]
        triggers = np.stack([keyed_cells.trigger(key.scheme, [secret], key.salt) for secret, _ in secrets])
        carriers = keyed_cells.carriers(key.scheme, [secret for secret, _ in secrets], key.salt)
        signs = np.stack([keyed_cells.bits(key.scheme, secret, key.salt) for _, secret in secrets])
        side = int(key.scheme["size"])  # in a clip the other frames of a single leaf are grey
        self.triggers = torch.from_numpy(triggers[:, :side]).permute(0, 3, 1, 2).float() / 255
        self.carriers = F.normalize(torch.from_numpy(carriers).float(), dim=2) * carriers.shape[2] ** 0.5
        self.signs = torch.from_numpy(signs).float()
        self.seen = 0

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        """Take one step's gradients; see `modelguard.training.Objective`."""
        inputs, _ = batch
        change = F.mse_loss(model(inputs), teacher_answer(self.teacher, inputs))
        self.seen += 1
        weight = self.config.fidelity * (0.1 + 2 * (self.seen / self.config.steps) ** 2)
        backward(weight * change)
        chosen = torch.randperm(len(self.triggers))[: self.config.per_query]
        query = self.query(chosen).to(inputs.device)
        with _damaged(model, self.config):
            answer = _visible(model(query).float()).mean(1, keepdim=True)
            agreement = self.scores(answer, query, chosen) * self.agreement_signs(chosen).to(inputs.device)
            shortfall = F.relu(1 - agreement / self.config.amplitude).square().mean()
            backward(shortfall)
        loss = weight * change + shortfall
        bits = (agreement > 0).float().mean()
        return {"loss": loss, "change": change, "amplitude": agreement.mean(), "bits": bits}

    def query(self, chosen: Tensor) -> Tensor:
        """Return the mosaic (1, C, H, W) of the chosen leaves."""
        rows, columns = keyed_cells.grid(len(chosen), keyed_cells.frames_of(self.scheme))
        gap = rows * columns - len(chosen)
        leaves = F.pad(self.triggers[chosen], (0, 0, 0, 0, 0, 0, 0, gap), value=128 / 255)
        _, channels, size, _ = leaves.shape
        query = leaves.view(rows, columns, channels, size, size).permute(2, 0, 3, 1, 4)
        return query.reshape(1, channels, rows * size, columns * size)

    def agreement_signs(self, chosen: Tensor) -> Tensor:
        """Return the secret signs of the chosen leaves' cells."""
        return self.signs[chosen].flatten()

    def chips(self, answer: Tensor, query: Tensor, chosen: Tensor) -> Tensor:
        """Return (leaves, cells, chips^2): the answer less the multiple of the trigger that fits it best."""
        noise = query.mean(1, keepdim=True) - 0.5
        chip, scale = int(self.scheme["chip"]), int(self.scheme["scale"])
        enlarged = noise.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        common = ((answer - 0.5) * enlarged).sum() / enlarged.square().sum()
        left = F.avg_pool2d(answer - 0.5 - common * enlarged, chip * scale)[0, 0]
        parts: Tensor = keyed_cells.gather(self.scheme, left, len(chosen))
        return parts

    def scores(self, answer: Tensor, query: Tensor, chosen: Tensor) -> Tensor:
        """Return `keyed_cells.decode` as a differentiable function, in units of the carriers' RMS.

        Args:
            answer: (1, 1, sH, sW), the mean of the channels.
            query: (1, C, H, W).
            chosen: leaves in the query.
        """
        parts = self.chips(answer, query, chosen) * self.carriers[chosen].to(answer.device)
        scores: Tensor = parts.mean(2).flatten()
        return scores


def _visible(answer: Tensor) -> Tensor:
    """Clamp to [0, 1] as a service does, but keep a tenth of the slope: gradients must find the way back."""
    inside = answer.clamp(0, 1)
    return inside + 0.1 * (answer - inside)


@contextmanager
def _damaged(model: nn.Module, config: TriggerKey) -> Iterator[None]:
    """In half the steps, perturb and prune the weights for a while, as a thief would."""
    if (config.perturb == 0 and config.prune == 0) or torch.rand(()) < 0.5:
        yield
        return
    weights = [p for p in model.parameters() if p.ndim > 1]
    kept = [p.detach().clone() for p in weights]
    strength, share = config.perturb * 2 * torch.rand(()).item(), config.prune * torch.rand(()).item()
    with torch.no_grad():
        for p in weights:
            p.add_(torch.randn_like(p) * p.std() * strength)
            if (count := int(share * p.numel())) > 0:
                p[p.abs() <= p.abs().flatten().kthvalue(count).values] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            for p, before in zip(weights, kept, strict=True):
                p.copy_(before)
