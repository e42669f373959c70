"""Thieves of a model with a barrier: networks trained on its answers, and what they show of its mark.

    modelguard bench surrogates --train DIR --tests DIR --thief cnet-32 --thief res9-16:l2:crop+resize

A thief is named by network, loss and augmentation, as in `modelguard attack surrogate`. Beside them an
innocent twin of the first thief, trained on the same pictures and the unmarked host's answers.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from modelguard.attacks import Loot, Surrogate
from modelguard.attacks.stolen_pairs import answers
from modelguard.attacks.surrogate_report import finite, mean_psnr, retained
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.barrier import centre, crops, fresh_key, scores, test_of
from modelguard.datasets import ImageSet, to_uint8
from modelguard.evidence import Key, Owner
from modelguard.schemes import Barrier, SelfWatermark

COUNTS = (1, 4, 16)


class Exam:
    """Clean photos as queries, and what the host and its marked self answer.

    Args:
        host: the unmarked model.
        marked: the same behind its barrier.
        key: of the barrier.
        photos: (C, H, W).
    """

    def __init__(self, host: nn.Module, marked: nn.Module, key: Key, photos: list[Tensor]) -> None:
        self.key, self.photos = key, [to_uint8(photo) for photo in photos]
        self.plain, self.marked = (answers(model, self.photos) for model in (host, marked))

    def grade(self, name: str, model: nn.Module, steps: int, task: float) -> dict[str, Any]:
        """Return fidelity, the part of the mark that is kept, and the test after some photos.

        Args:
            name: of the thief.
            model: what he trained.
            steps: that he took.
            task: PSNR in dB of his model on the host's task.
        """
        given = answers(model, self.photos)
        found = [scores(self.key, *pair) for pair in zip(self.photos, given, strict=True)]
        tests = [(count, test_of(self.key, found[:count])) for count in COUNTS if count <= len(found)]
        return {
            "thief": name,
            "steps": steps,
            "task": round(task, 2),
            "to_host": finite(round(mean_psnr(given, self.plain), 2)),
            "to_marked": finite(round(mean_psnr(given, self.marked), 2)),
            "retained": round(retained(given, self.marked, self.plain) or 0.0, 3),
            "read": [
                {
                    "photos": count,
                    "agree": test.matches,
                    "bits": test.bits,
                    "log10_p": round(test.log10_p, 2),
                }
                for count, test in tests
            ],
        }


def centres(images: ImageSet, side: int, count: int) -> ImageSet:
    """Return the centres of `count` images, spread over the set."""
    count = min(count, len(images))
    return ImageSet.of([centre(images[number * len(images) // count], side) for number in range(count)])


def main(
    train: hosts.Train,
    tests: hosts.Tests,
    host: Annotated[str, typer.Option(help="dncnn, or dncnn-colour, which denoises each colour")] = "dncnn",
    thief: Annotated[
        list[str] | None,
        typer.Option(help="NETWORK, NETWORK:LOSS or NETWORK:LOSS:AUGMENTATION; default cnet-32"),
    ] = None,
    steps: Annotated[int, typer.Option(help="training steps of a thief")] = 2000,
    count: Annotated[int, typer.Option(help="pictures that he has")] = 400,
    side: Annotated[int, typer.Option(help="of them, in pixels")] = 128,
    patch: Annotated[int, typer.Option()] = 96,
    batch: Annotated[int, typer.Option()] = 8,
    lr: Annotated[float, typer.Option()] = 1e-3,
    photos: Annotated[int, typer.Option(help="asked of each")] = 16,
    inside: Annotated[bool, typer.Option(help="the model has learnt its mark: SelfWatermark")] = False,
    embed_steps: Annotated[int, typer.Option(help="of SelfWatermark")] = SelfWatermark.steps,
    tag: Annotated[str, typer.Option(help="added to the name of the result")] = "",
    out: record.Out = Path("docs/results"),
) -> None:
    """Mark a host, train thieves on its answers to noisy pictures, and read the mark."""
    hosts.reproducible()
    source = hosts.load(host)
    scheme = SelfWatermark(steps=embed_steps) if inside else Barrier()
    key = fresh_key(Owner("Benchmark", Ed25519PrivateKey.generate()), scheme, source.channels)
    marked = copy.deepcopy(source.model)
    if isinstance(scheme, SelfWatermark):
        scheme.embed(
            marked, key, hosts.photos(train, 600, channels=source.channels), source.task, "embedding"
        )
        marked.cpu()
    else:
        marked = scheme.attach(marked, key).eval()
    exam = Exam(source.model, marked, key, crops(tests / "Kodak24", source.channels, photos))
    loot = Loot(
        centres(ImageSet.from_folder(train, source.channels, smallest=side), side, count), source.task
    )
    rows: dict[str, Any] = {"host": host, "scheme": repr(scheme), "pictures": len(loot.images), "cells": []}
    notes = f"{count} pictures of {side} px, clean photos of 256 px as queries, p without search charged"

    def note(name: str, model: nn.Module, taken: int) -> None:
        rows["cells"].append(exam.grade(name, model, taken, source.psnr(model, tests, source.sets[0])))
        record.write(f"surrogates-{host}{'-inside' * inside}{tag}", out, rows, seed=0, notes=notes)

    note("the marked model itself", marked, 0)
    note("the unmarked host", source.model, 0)
    names = thief or ["cnet-32"]
    pairs: dict[bool, Any] = {}
    for name, guilty in [*((name, True) for name in names), (names[0], False)]:
        network, loss, augmentation = (*name.split(":"), *("l1", "none")[name.count(":") :])
        attack = Surrogate(
            network,
            loss,
            augmentation,
            steps=steps,
            check_every=max(steps // 8, 1),
            batch=batch,
            patch=patch,
            lr=lr,
            progress=name,
        )
        if guilty not in pairs:
            pairs[guilty] = attack.gather(marked if guilty else source.model, loot)
        torch.manual_seed(0)
        stolen = attack.train(pairs[guilty])
        label = ", ".join(name.split(":"))
        note(label if guilty else f"{label}, innocent", stolen.model, stolen.best_step)


if __name__ == "__main__":
    typer.run(main)
