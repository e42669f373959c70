"""Which mark survives: the default, other triggers, brightness or a filter as carrier, hardening, Adam.

Every variant is embedded in the same host for the same number of steps, then pruned, fine-tuned and
overwritten. The rejected ones live here only, so that the choice can be measured again.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from modelguard import attacks
from modelguard.attacks import Loot
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.hosts import Host
from modelguard.datasets import ImageSet, Patches, to_uint8
from modelguard.evidence import Key, Owner
from modelguard.networks import evaluating
from modelguard.schemes import Contract, TriggerKey, keyed_cells
from modelguard.schemes.trigger_key import MarkObjective
from modelguard.statistics import sign_test
from modelguard.training import Optimiser, TrainConfig, fit


class WhiteNoise(MarkObjective):
    """Chips, on triggers that are dark or light at random in every pixel instead of textures."""

    def __init__(self, config: TriggerKey, key: Key, teacher: nn.Module) -> None:
        super().__init__(config, key, teacher)
        light = torch.rand_like(self.triggers) > 0.5
        self.triggers = torch.where(light, keyed_cells.LIGHT / 255, keyed_cells.DARK / 255)


class Brightness(MarkObjective):
    """Cells are brighter or darker than the mean of all cells; no zero-sum carrier."""

    def scores(self, answer: Tensor, query: Tensor, chosen: Tensor) -> Tensor:
        """Return the brightness of each cell against the mean of all."""
        chips = super().chips(answer, query, chosen)
        cells = chips.mean(2).flatten()
        return cells - cells.mean()


class KeyedFilter(MarkObjective):
    """The answer is the trigger through a filter whose 64 coefficients carry the bits; one key, any trigger.

    The coefficients of the unmarked host's answer are subtracted (reference subtraction), without which the
    host's own filter drowns the bits.
    """

    def __init__(self, config: TriggerKey, key: Key, teacher: nn.Module) -> None:
        super().__init__(config, key, teacher)
        side = 9
        wave = torch.stack([torch.cos(math.pi * (torch.arange(side) + 0.5) * k / side) for k in range(side)])
        basis = torch.einsum("ai,bj->abij", wave, wave).reshape(-1, 1, side, side)[1:65]
        self.basis = basis / basis.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        self.filter_signs = self.signs.flatten()[:64]

    def agreement_signs(self, chosen: Tensor) -> Tensor:
        """Return the 64 signs, the same for every trigger."""
        return self.filter_signs

    def scores(self, answer: Tensor, query: Tensor, chosen: Tensor) -> Tensor:
        """Return the 64 coefficients of the answer less those of the unmarked host's answer."""
        with torch.no_grad():
            unmarked = self.teacher(query).float().mean(1, keepdim=True)
        waves = F.conv2d(query.mean(1, keepdim=True) - 0.5, self.basis, padding=4)
        difference: Tensor = answer - unmarked
        return (difference * waves).mean((0, 2, 3)) / waves.square().mean((0, 2, 3)).sqrt()


@dataclass(frozen=True)
class Variant:
    """A carrier and the settings it is embedded with."""

    name: str
    objective: type[MarkObjective]
    config: TriggerKey
    optimiser: Optimiser = "muon"


def read_back(objective: MarkObjective, model: nn.Module) -> dict[str, float]:
    """Return agreeing share and log10 p of one query, the answer rounded to 8 bits."""
    chosen = torch.arange(objective.config.per_query)
    query = objective.query(chosen)
    with evaluating(model):
        answer = to_uint8(model(query)).float().div(255).mean(1, keepdim=True)
    scores = objective.scores(answer, query, chosen).detach().double().numpy()
    signs = objective.agreement_signs(chosen).numpy().astype(np.int8)
    test = sign_test(signs, np.round(scores * 1e9).astype(np.int64))
    return {"agree": round(test.matches / test.bits, 3), "bits": test.bits, "log10_p": round(test.log10_p, 1)}


def main(
    train: hosts.Train,
    tests: hosts.Tests,
    host: Annotated[str, typer.Option(help="dncnn, red, kair")] = "dncnn",
    weights: Annotated[Path | None, typer.Option("--hosts", help="folder of independent weights")] = None,
    steps: Annotated[int, typer.Option(help="embedding steps")] = 200,
    tune_steps: Annotated[int, typer.Option(help="fine-tuning steps, batch 16, 1e-4")] = 150,
    only: Annotated[list[str] | None, typer.Option(help="run these variants only")] = None,
    out: record.Out = Path("docs/results"),
) -> None:
    """Embed each variant, prune 35 %, fine-tune, overwrite, and compare."""
    hosts.reproducible()
    source = hosts.load(host, weights)
    photos = hosts.photos(train, 600)
    base = TriggerKey(steps=steps, leaves=4)
    variants = [
        Variant("chips", MarkObjective, base),
        Variant("chips, Adam", MarkObjective, base, "adam"),
        Variant("white noise", WhiteNoise, base),
        Variant("brightness", Brightness, base),
        Variant("filter", KeyedFilter, base),
        Variant("chips, weight noise", MarkObjective, TriggerKey(steps=steps, leaves=4, perturb=0.1)),
        Variant("chips, simulated pruning", MarkObjective, TriggerKey(steps=steps, leaves=4, prune=0.4)),
    ]
    before = source.psnr(source.model, tests, source.sets[0])
    rows: list[dict[str, Any]] = []
    for variant in variants:
        if only and variant.name not in only:
            continue
        marked = copy.deepcopy(source.model).eval()
        objective, seconds = _embed(variant, marked, source, photos)
        loot = Loot(photos, source.task)
        pruned = attacks.Prune(0.35)(marked, loot)
        tuned = attacks.FineTune(steps=tune_steps, batch=16)(marked, loot)
        overwritten = copy.deepcopy(marked)
        _embed(variant, overwritten, source, photos)  # another owner's key, by the same variant
        rows.append(
            {
                "variant": variant.name,
                "settings": repr(variant.config),
                "seconds": round(seconds, 1),
                "psnr_change": round(source.psnr(marked, tests, source.sets[0]) - before, 3),
                "marked": read_back(objective, marked),
                "pruned 35 %": read_back(objective, pruned),
                f"fine-tuned {tune_steps}": read_back(objective, tuned),
                "overwritten": read_back(objective, overwritten),
            }
        )
        record.write(f"carriers-{host}", out, rows, seed=0)


def _embed(variant: Variant, model: nn.Module, source: Host, photos: ImageSet) -> tuple[MarkObjective, float]:
    """Mark `model` in place with a fresh key; return what reads it, and the seconds."""
    config = variant.config
    owner = Owner("Benchmark", Ed25519PrivateKey.generate())
    public = config.public(Contract(1, source.border or 1))
    key = Key.create(owner, public, config.leaves, decoder=config.decoder, log2_n=1)
    objective = variant.objective(config, key, copy.deepcopy(model))
    patches = Patches(photos, source.task, config.patch, 2**31)
    training = TrainConfig(
        steps=config.steps, batch=config.batch, lr=config.lr, warmup=20, optimiser=variant.optimiser
    )
    result = fit(model, patches, objective, training, progress=variant.name)
    model.eval()
    return objective, result.seconds


if __name__ == "__main__":
    typer.run(main)
