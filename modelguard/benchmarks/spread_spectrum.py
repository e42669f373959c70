"""The additive spread spectrum of Table 3 in Zhang et al. (TPAMI 2022), and what thieves carry of it.

    modelguard bench spread_spectrum --train DIR --tests DIR --thief unet-16:l2

Each of 64 bits is the sign of a random pattern over the whole image, always in the same place, added to each
answer of a host. `train_logo_barrier` and `surrogates` ask the same of a trained barrier and of filters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from modelguard.attacks import Loot
from modelguard.attacks.stolen_pairs import answers, questioned
from modelguard.attacks.surrogate_report import finite, mean_psnr, retained
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.surrogates import attack_of, centres
from modelguard.datasets import ImageSet
from modelguard.schemes.logo_score import THRESHOLD
from modelguard.statistics import ncc

BITS = 64


class SpreadSpectrum(nn.Module):
    """A host behind which 64 random patterns are added, each with the sign of a bit.

    Args:
        host: answers (B, C, side, side) in [0, 1].
        side: of the images, pixels.
        psnr: of the marked answers to the others, dB; before clamping.
        seed: of bits and patterns.
    """

    def __init__(self, host: nn.Module, side: int, psnr: float, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.host = host
        self.bits = torch.randint(2, (BITS,), generator=draw)
        self.patterns = torch.randn(BITS, side, side, generator=draw).sign()
        pattern = torch.einsum("k,khw->hw", 2.0 * self.bits - 1, self.patterns)
        self.mark = pattern * 10 ** (-psnr / 20) / pattern.std()

    def forward(self, image: Tensor) -> Tensor:
        """Return the marked answers."""
        answer: Tensor = self.host(image)
        return (answer + self.mark).clamp(0, 1)

    def read(self, image: Tensor) -> Tensor:
        """Return the bits read from one uint8 image (C, side, side), blind: of its detail, edges cut off."""
        grey = image.float().mean(0)[None, None] / 255
        detail = (grey - F.avg_pool2d(F.pad(grey, [1] * 4, mode="reflect"), 3, 1)).clamp(-0.03, 0.03)
        return (torch.einsum("hw,khw->k", detail[0, 0], self.patterns) > 0).long()


def main(
    train: hosts.Train,
    tests: hosts.Tests,
    host: Annotated[str, typer.Option(help="dncnn or dncnn-colour")] = "dncnn",
    thief: Annotated[list[str] | None, typer.Option(help="NETWORK[:LOSS[:AUGMENTATION[:SHARE]]]")] = None,
    steps: Annotated[int, typer.Option(help="training steps of a thief")] = 2000,
    count: Annotated[int, typer.Option(help="pictures that he has")] = 800,
    side: Annotated[int, typer.Option(help="of them and of the test photos, in pixels")] = 128,
    psnr: Annotated[float, typer.Option(help="of the mark; the paper has 40.81")] = 41.0,
    asked: Annotated[str, typer.Option(help="test set")] = "Kodak24",
    out: record.Out = Path("docs/results"),
) -> None:
    """Mark a host's answers, train thieves on them, and read the bits; docs/results/spread_spectrum.json."""
    hosts.reproducible()
    attacks = {name: attack_of(name, steps, side) for name in thief or ["cnet-32:l2", "unet-16:l2"]}
    source = hosts.load(host)
    marked = SpreadSpectrum(source.model, side, psnr, seed=0)
    exams = Loot(centres(ImageSet.from_folder(tests / asked, source.channels), side, 100), source.task)
    loot = Loot(
        centres(ImageSet.from_folder(train, source.channels, smallest=side), side, count), source.task
    )
    inputs, truth = zip(*questioned(exams, 1), strict=True)
    photos = ImageSet.of(list(truth)).images
    plain, shown = (answers(model, inputs) for model in (source.model, marked))
    rows: dict[str, Any] = {"host": host, "pictures": len(loot.images), "photos": len(photos), "cells": []}
    notes = "nc: eq. 13 of the paper on 64 bits, above 0.95 its success; photos with noise, blind"

    def note(name: str, given: tuple[Tensor, ...], steps: int) -> None:
        read = [marked.read(image) for image in given]
        found = [ncc(bits, marked.bits) for bits in read]
        cell = {
            "thief": name,
            "steps": steps,
            "psnr_to_photo": round(mean_psnr(given, photos), 2),
            "to_host": finite(round(mean_psnr(given, plain), 2)),
            "retained": round(retained(given, shown, plain) or 0.0, 3),
            "agree": round(sum(float((bits == marked.bits).float().mean()) for bits in read) / len(read), 3),
            "nc": round(sum(found) / len(found), 4),
            "sr_nc": sum(one > THRESHOLD for one in found) / len(found),
        }
        rows["cells"].append(cell)
        record.write("spread_spectrum", out, rows, seed=0, notes=notes)

    note("the marked model itself", shown, 0)
    note("the unmarked host", plain, 0)
    pairs = None
    for name, attack in attacks.items():
        pairs = pairs or attack.gather(marked, loot)
        stolen = attack.train(pairs)
        note(name.replace(":", ", "), answers(stolen.model, inputs), stolen.best_step)


if __name__ == "__main__":
    typer.run(main)
