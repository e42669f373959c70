"""What anybody can do to a barrier with answers to his own photos, and no key: average, fit, take off, move.

    modelguard bench forging --tests DIR

The filters are public and their signs are not. He asks the service, and correlates what it answered with what
he asked, as the owner does; or he averages what the mark changes, which here is even given to him.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from modelguard.attacks.stolen_pairs import answers
from modelguard.attacks.surrogate_report import finite, mean_psnr
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.barrier import SEARCHED, Median, crops, fresh_key, scores, test_of
from modelguard.datasets import to_uint8
from modelguard.evidence import Key, Owner
from modelguard.networks import dncnn
from modelguard.schemes import Barrier, odd_filters
from modelguard.schemes.barrier import Filtered, signed_carriers

FITTED_FROM = (1, 3, 10)
SETS = {"Kodak24": 24, "CBSD68": 68, "VOC2012": 16}
"""Photos of each test set; the first of them are the owner's."""


def fitted(stranger: Key, photos: Sequence[Tensor], given: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    """Return the signs of all features, as somebody fits them who holds no key but one of his own making."""
    total = np.sum([scores(stranger, *pair) for pair in zip(photos, given, strict=True)], axis=0)
    secret_k, _ = stranger.leaf(0)
    signs: np.ndarray[Any, Any] = np.sign(
        total * odd_filters.carriers(stranger.scheme, secret_k, stranger.salt)
    )
    return signs


def barrier_of(signs: np.ndarray[Any, Any], strength: float) -> Filtered:
    """Return a barrier of these signs behind nothing; one of negative strength takes a mark off."""
    made = Filtered(nn.Identity(), 1)
    made.weights += torch.from_numpy(signs.astype(np.int16))
    made.amplitude.fill_(strength)
    return made.eval()


def case(key: Key, photos: list[Tensor], given: Sequence[Tensor], plain: Sequence[Tensor]) -> dict[str, Any]:
    """Return how near some answers are to those of the unmarked host, and what is read from them."""
    test = test_of(key, [scores(key, *pair) for pair in zip(photos, given, strict=True)])
    return {
        "to_host": finite(round(mean_psnr(given, plain), 2)),
        "agree": test.matches,
        "bits": test.bits,
        "log10_p_adj": round(SEARCHED.adjust(test.log10_p), 1),
    }


def measure(name: str, host: nn.Module, photos: list[Tensor], read: int, owner: Owner) -> dict[str, Any]:
    """Return what is read from answers that were averaged, cleaned or forged.

    Args:
        name: of the host.
        host: takes the photos as they are.
        photos: uint8 (C, 256, 256); the first `read` are asked by the owner, the others by the attacker.
        read: photos of a session.
        owner: of the keys.
    """
    scheme, channels = Barrier(), photos[0].shape[0]
    key, stranger = (fresh_key(owner, scheme, channels) for _ in range(2))
    marked, plain = (answers(one, photos) for one in (scheme.attach(host, key).eval(), host))
    asked, own, innocent = photos[:read], marked[:read], plain[:read]

    def changed(images: Sequence[Tensor], change: Tensor) -> list[Tensor]:
        return [to_uint8((image + change) / 255) for image in images]

    mean = torch.stack(
        [one.float() - two for one, two in zip(marked[read:], plain[read:], strict=True)]
    ).mean(0)
    found: dict[str, Sequence[Tensor]] = {
        "as they are": own,
        f"mean change of {len(photos) - read} others taken off": changed(own, -mean),
        "the same put on the unmarked host's": changed(innocent, mean),
    }
    right, truth = {}, np.sign(signed_carriers(key))
    for count in FITTED_FROM:
        signs = fitted(stranger, photos[read:][:count], marked[read:][:count])
        right[f"{count} answers"] = round(float((signs == truth).mean()), 3)
        found[f"signs of {count} answers taken off"] = answers(barrier_of(signs, -scheme.amplitude), own)
        found[f"signs of {count} answers put on the unmarked host's"] = answers(
            barrier_of(signs, scheme.amplitude), innocent
        )
    cases = [{"answers": label, **case(key, asked, given, innocent)} for label, given in found.items()]
    return {"host": name, "photos": read, "signs_right": right, "cases": cases}


def main(
    tests: hosts.Tests,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="SET=PHOTOS, several; default 108 in all")
    ] = None,
    read: Annotated[int, typer.Option(help="photos of the owner's session")] = 8,
    out: record.Out = Path("docs/results"),
) -> None:
    """Average, fit, take off and move the marks of a denoiser and of a classical filter."""
    hosts.reproducible()
    wanted = dict(one.split("=") for one in sets) if sets else SETS
    owner = Owner("Benchmark", Ed25519PrivateKey.generate())
    rows = []
    for label, host, channels in (
        ("DnCNN, grey", dncnn(pretrained="denoise-25"), 1),
        ("median filter, colour", Median(), 3),
    ):
        photos = [
            to_uint8(one) for name, n in wanted.items() for one in crops(tests / name, channels, int(n))
        ]
        rows.append(measure(label, host, photos, read, owner))
    notes = "clean photos of 256 px, 60 bits of search charged, fresh keys"
    record.write("forging", out, {"hosts": rows}, seed=0, notes=notes)


if __name__ == "__main__":
    typer.run(main)
