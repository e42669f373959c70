"""Thieves of a model with a barrier: networks trained on its answers, and what they show of its mark.

    modelguard bench surrogates --train DIR --tests DIR --thief cnet-32 --thief res9-16:l2:crop+resize:.25

A thief is named by network, loss, augmentation and share of the pictures, as in `modelguard attack
surrogate`. Beside them innocents, trained on the same pictures and the unmarked host's answers.
"""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from modelguard.attacks import Loot, Surrogate
from modelguard.attacks.stolen_pairs import answers
from modelguard.attacks.surrogate_picture import picture
from modelguard.attacks.surrogate_report import finite, mean_psnr, retained
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.barrier import centre, crops, fresh_key, scores, test_of
from modelguard.datasets import ImageSet, to_uint8, write_image
from modelguard.errors import InputError
from modelguard.evidence import Key, Owner
from modelguard.schemes import Barrier, SelfWatermark, SymmetricBarrier
from modelguard.training import Optimiser

COUNTS = (1, 4, 16, 64)


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

    def grade(
        self, name: str, model: nn.Module, steps: int, task: float, shown: Path | None = None
    ) -> dict[str, Any]:
        """Return fidelity, the part of the mark that is kept, and the test after some photos.

        The decoder looks at what an answer has beyond its question. Beside that, the test after all photos is
        taken blind, on the answers alone, and informed, on what they have beyond the unmarked host's.

        Args:
            name: of the thief.
            model: what he trained.
            steps: that he took.
            task: PSNR in dB of his model on the host's task.
            shown: file for a picture of what he took.
        """
        given = answers(model, self.photos)
        if shown is not None:
            write_image(shown, picture(self.photos, self.marked, given, self.plain), overwrite=True)
        nothing = [torch.full_like(photo, 128) for photo in self.photos]
        found, blind, informed = (
            [scores(self.key, *pair) for pair in zip(beyond, given, strict=True)]
            for beyond in (self.photos, nothing, self.plain)
        )
        alone = [test_of(self.key, [one]).log10_p <= -2 for one in found]
        tests = [(count, test_of(self.key, found[:count])) for count in COUNTS if count <= len(found)]
        return {
            "thief": name,
            "steps": steps,
            "task": round(task, 2),
            "to_host": finite(round(mean_psnr(given, self.plain), 2)),
            "to_marked": finite(round(mean_psnr(given, self.marked), 2)),
            "retained": round(retained(given, self.marked, self.plain) or 0.0, 3),
            "success_at_1_percent": round(sum(alone) / len(alone), 3),
            "read": [
                {
                    "photos": count,
                    "agree": test.matches,
                    "bits": test.bits,
                    "log10_p": round(test.log10_p, 2),
                }
                for count, test in tests
            ],
            "blind_log10_p": round(test_of(self.key, blind).log10_p, 2),
            "informed_log10_p": round(test_of(self.key, informed).log10_p, 2),
        }


def named(name: str) -> tuple[str, str, str, float]:
    """Return network, loss, augmentation and share of NETWORK[:LOSS[:AUGMENTATION[:SHARE]]].

    Raises:
        InputError: it is no such name.
    """
    try:
        network, loss, augmentation, share = (*name.split(":"), *("l1", "none", "1")[name.count(":") :])
        return network, loss, augmentation, float(share)
    except ValueError as error:
        raise InputError(
            f"thief: {name!r} names none", "write NETWORK[:LOSS[:AUGMENTATION[:SHARE]]], such as cnet-32:l2"
        ) from error


def attack_of(
    name: str,
    steps: int,
    patch: int,
    batch: int = 8,
    lr: float = 1e-3,
    seed: int = 0,
    optimiser: Optimiser = "adam",
) -> Surrogate:
    """Return the attack of a thief named as in `named`; he looks eight times how good he is."""
    network, loss, augmentation, share = named(name)
    return Surrogate(
        network,
        loss,
        augmentation,
        share,
        steps=steps,
        check_every=max(steps // 8, 1),
        batch=batch,
        patch=patch,
        lr=lr,
        optimiser=optimiser,
        seed=seed,
        progress=name,
    )


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
        typer.Option(help="NETWORK[:LOSS[:AUGMENTATION[:SHARE]]]; default cnet-32"),
    ] = None,
    innocent: Annotated[
        list[str] | None,
        typer.Option(help="named likewise, each of a seed of its own; default the first thief"),
    ] = None,
    steps: Annotated[int, typer.Option(help="training steps of a thief")] = 2000,
    innocent_steps: Annotated[int | None, typer.Option(help="of an innocent, if others")] = None,
    count: Annotated[int, typer.Option(help="pictures that he has")] = 400,
    side: Annotated[int, typer.Option(help="of them, in pixels")] = 128,
    patch: Annotated[int, typer.Option()] = 96,
    batch: Annotated[int, typer.Option()] = 8,
    lr: Annotated[float, typer.Option()] = 1e-3,
    optimiser: Annotated[Optimiser, typer.Option()] = "adam",
    photos: Annotated[int, typer.Option(help="asked of each")] = 16,
    asked: Annotated[str, typer.Option(help="test set they are from")] = "Kodak24",
    inside: Annotated[bool, typer.Option(help="the model has learnt its mark: SelfWatermark")] = False,
    symmetric: Annotated[bool, typer.Option(help="SymmetricBarrier, for dncnn-colour")] = False,
    embed_steps: Annotated[int, typer.Option(help="of SelfWatermark")] = SelfWatermark.steps,
    pictures: Annotated[Path | None, typer.Option(help="folder for a picture of each thief's mark")] = None,
    tag: Annotated[str, typer.Option(help="added to the name of the result")] = "",
    out: record.Out = Path("docs/results"),
) -> None:
    """Mark a host, train thieves on its answers to noisy pictures, and read the mark."""
    hosts.reproducible()
    if inside and symmetric:
        raise InputError("inside, symmetric: no scheme is both", "give one of them")
    thieves = thief or ["cnet-32"]
    innocents = thieves[:1] if innocent is None else innocent
    make = partial(attack_of, patch=patch, batch=batch, lr=lr, optimiser=optimiser)
    # all of them now, not one by one after hours
    guilty = [(name.replace(":", ", "), make(name, steps)) for name in thieves]
    clean = [
        (f"{name.replace(':', ', ')}, innocent {seed + 1}", make(name, innocent_steps or steps, seed=seed))
        for seed, name in enumerate(innocents)
    ]
    source = hosts.load(host)
    scheme: Barrier | SelfWatermark = Barrier()
    if inside:
        scheme = SelfWatermark(steps=embed_steps)
    elif symmetric:
        scheme = SymmetricBarrier()
    key = fresh_key(
        Owner("Benchmark", Ed25519PrivateKey.generate()), scheme, source.channels, source.border or 1
    )
    marked = copy.deepcopy(source.model)
    if isinstance(scheme, SelfWatermark):
        scheme.embed(
            marked, key, hosts.photos(train, 600, channels=source.channels), source.task, "embedding"
        )
        marked.cpu()
    else:
        marked = scheme.attach(marked, key).eval()
    exam = Exam(source.model, marked, key, crops(tests / asked, source.channels, photos))
    loot = Loot(
        centres(ImageSet.from_folder(train, source.channels, smallest=side), side, count), source.task
    )
    rows: dict[str, Any] = {"host": host, "scheme": repr(scheme), "pictures": len(loot.images), "cells": []}
    notes = f"{count} pictures of {side} px, clean photos of 256 px as queries, p without search charged"

    def note(name: str, model: nn.Module, taken: int) -> None:
        shown = (
            None if pictures is None else pictures / f"{host}-{'-'.join(name.replace(',', '').split())}.png"
        )
        task = source.psnr(model, tests, source.sets[0])
        rows["cells"].append(exam.grade(name, model, taken, task, shown))
        left = 2 + len(guilty) + len(clean) - len(rows["cells"])
        kind = "-inside" * inside + "-symmetric" * symmetric
        so_far = f"{notes}; unfinished" if left else notes
        record.write(f"surrogates-{host}{kind}{tag}", out, rows, seed=0, notes=so_far)

    note("the marked model itself", marked, 0)
    note("the unmarked host", source.model, 0)
    for service, attacks in ((marked, guilty), (source.model, clean)):
        pairs = None
        for name, attack in attacks:
            pairs = pairs or attack.gather(service, loot)
            torch.manual_seed(0)
            stolen = attack.train(pairs)
            note(name, stolen.model, stolen.best_step)


if __name__ == "__main__":
    typer.run(main)
