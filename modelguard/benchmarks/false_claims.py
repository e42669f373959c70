"""False claims: fresh keys against models that do not carry them, and services that are no models at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from modelguard import networks
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.trigger_key import kept
from modelguard.datasets import GaussianNoise, Patches
from modelguard.evidence import Key, Owner
from modelguard.schemes import Contract, TriggerKey, TriggerReader, read
from modelguard.statistics import clopper_pearson, sign_test
from modelguard.suspects import CallableSuspect, ModuleSuspect, Suspect
from modelguard.training import TrainConfig, fit, restoration

LEVELS = (0.05, 0.01, 0.001)
GREY = Contract(1, 1)


def fresh_key(owner: Owner, scheme: TriggerKey, contract: Contract = GREY) -> Key:
    """Return a new key with a cheap salt: what is tested is chance, not an owner who searches."""
    public = scheme.public(contract)
    return Key.create(owner, public, scheme.per_query, decoder=scheme.decoder, log2_n=1)


def log10_p(suspect: Suspect, key: Key) -> float:
    """Return log10 p, before any correction, of one query with all leaves of `key`."""
    reader = read(key.scheme)
    assert isinstance(reader, TriggerReader)
    leaves = [key.leaf(index) for index in range(key.leaves)]
    secrets = [secret for secret, _ in leaves]
    answer = suspect.ask(reader.trigger(key.scheme, secrets, key.salt)).image
    assert answer is not None
    signs = np.concatenate([reader.bits(key.scheme, secret, key.salt) for _, secret in leaves])
    return sign_test(signs, reader.decode(key.scheme, secrets, key.salt, answer)).log10_p


class Strided(nn.Module):
    """A small independent denoiser of another family: strided encoder, decoder, no batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, width, 4, 2, 1)
        first, second = (nn.Conv2d(width, width, 3, 1, 1) for _ in range(2))
        self.body = nn.Sequential(nn.GELU(), first, nn.GELU(), second)
        self.up = nn.ConvTranspose2d(width, 1, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the denoised image."""
        even = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        noise: Tensor = self.up(self.body(self.down(even)))
        return x - noise[..., : x.shape[2], : x.shape[3]]


def innocents(train: Path, weights: Path | None, steps: int) -> Iterator[tuple[str, Suspect]]:
    """Yield models and services that never saw any key."""
    yield "unmarked host", ModuleSuspect(hosts.load("dncnn").model)
    yield "VDSR without up-scaling", ModuleSuspect(networks.vdsr(pretrained="sr-234"))
    if weights is not None:
        yield "KAIR DnCNN", ModuleSuspect(hosts.load("kair", weights).model)
    photos = hosts.photos(train, 300)
    for name, net in {
        "small DnCNN": networks.DnCNN(7, width=32),
        "small DnCNN without batch norm": networks.DnCNN(5, width=24, batch_norm=False),
        "strided GELU encoder-decoder": Strided(32),
    }.items():
        patches = Patches(photos, GaussianNoise(25), 40, 2**31, 11)
        config = TrainConfig(steps=steps, batch=16, warmup=20)
        fit(net.train(), patches, restoration(F.mse_loss), config, progress=name)
        yield name, ModuleSuspect(net.eval())
    yield "identity service", CallableSuspect(lambda image: image)
    yield "grey service", CallableSuspect(lambda image: np.full_like(image, 128))
    yield "blur service", CallableSuspect(blur)
    noise = np.random.default_rng(0)
    yield "noise service", CallableSuspect(lambda image: noise.integers(0, 256, image.shape, np.uint8))
    yield "inverting service", CallableSuspect(lambda image: 255 - image)


def blur(image: np.ndarray) -> np.ndarray:
    """Return the mean of 5 x 5 pixels, what a service without any model might do."""
    plane = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    blurred = F.avg_pool2d(F.pad(plane, (2, 2, 2, 2), mode="reflect"), 5, 1)
    return blurred.round().to(torch.uint8)[0].permute(1, 2, 0).numpy()


def rejections(log10_ps: Sequence[float]) -> dict[str, Any]:
    """Return how often keys are rejected at each of `LEVELS`, with Clopper-Pearson bounds at 99 %.

    "level_within": the level lies within the bounds, or rejections are rarer than it (p-values are discrete).
    """
    row: dict[str, Any] = {"keys": len(log10_ps), "lowest_log10_p": round(min(log10_ps), 2)}
    for level in LEVELS:
        hits = sum(value <= math.log10(level) for value in log10_ps)
        share, (low, high) = hits / len(log10_ps), clopper_pearson(hits, len(log10_ps), 0.99)
        row[f"at_{level}"] = {
            "rejected": hits,
            "share": share,
            "low": low,
            "high": high,
            "level_within": low <= level <= high or share <= level,
        }
    return row


def main(
    train: hosts.Train,
    weights: Annotated[Path | None, typer.Option("--hosts", help="folder of independent weights")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="folder of a marked dncnn: used if there, else made")
    ] = None,
    keys: Annotated[int, typer.Option(help="fresh keys per suspect")] = 1000,
    steps: Annotated[int, typer.Option(help="training steps of the small innocent models")] = 300,
    out: record.Out = Path("docs/results"),
) -> None:
    """Count how often fresh keys are rejected at .05, .01 and .001, with Clopper-Pearson bounds."""
    hosts.reproducible()
    owner = Owner("Stranger", Ed25519PrivateKey.generate())
    one_leaf = TriggerKey(leaves=1, per_query=1)
    rows: list[dict[str, Any]] = []
    notes = "Clopper-Pearson intervals at 99 %; one leaf of 64 bits a query"

    def count(name: str, suspect: Suspect) -> None:
        values = [log10_p(suspect, fresh_key(owner, one_leaf)) for _ in range(keys)]
        rows.append({"suspect": name, **rejections(values)})
        record.write("false_claims", out, rows, seed=0, notes=notes)

    marked, _, _ = kept(hosts.load("dncnn"), hosts.photos(train, 600), keep)
    count("host marked with another key", ModuleSuspect(marked))
    for name, suspect in innocents(train, weights, steps):
        count(name, suspect)


if __name__ == "__main__":
    typer.run(main)
