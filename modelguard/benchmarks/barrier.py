"""A barrier: what it costs the eye and the clock, and from how many ordinary photos it is read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from modelguard.benchmarks import hosts, record
from modelguard.datasets import to_uint8
from modelguard.datasets.images import SUFFIXES, read_image
from modelguard.distortions import Blur, Jpeg, Noise, Resize
from modelguard.errors import InputError
from modelguard.evidence import Key, Owner
from modelguard.networks import dncnn, evaluating
from modelguard.schemes import Barrier, Contract, PhotoReader, Scheme, SymmetricBarrier, WaveBarrier, read
from modelguard.statistics import Multiplicity, SignTest, clopper_pearson, sign_test
from modelguard.suspects.base import Pixels

SIDE = 256
COUNTS = (1, 3, 8)
SEARCHED = Multiplicity(1, 1, 60)
"""What a key without a timestamp is charged for keys that could have been tried."""
LEVELS = (0.05, 0.01, 0.001)
CHANNELS: dict[str, Callable[[], nn.Module]] = {
    "8 bit": nn.Identity,
    "JPEG 75": lambda: Jpeg(75),
    "noise 5": lambda: Noise(5),
    "resize 0.5": lambda: Resize(0.5),
    "blur 1": lambda: Blur(1),
}


Behind = Barrier | SymmetricBarrier | WaveBarrier
SCHEMES: dict[str, Behind] = {
    "filters": Barrier(),
    "symmetric": SymmetricBarrier(),
    "waves": WaveBarrier(),
}


class Median(nn.Module):
    """The 3 x 3 median filter: an algorithm without parameters."""

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W)."""
        padded = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
        near = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
        return near.median(4).values


def centre(image: Tensor, side: int) -> Tensor:
    """Return the square of `side` pixels in the middle of (C, H, W)."""
    top, left = ((extent - side) // 2 for extent in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def channels_of(scheme: Behind) -> int:
    """Return the fewest channels it marks."""
    return 3 if isinstance(scheme, SymmetricBarrier) else 1


def crops(folder: Path, channels: int, count: int) -> list[Tensor]:
    """Return the centres, 256 x 256, of the first photos of a folder that are large enough.

    Raises:
        InputError: there are fewer.
    """
    found: list[Tensor] = []
    for path in sorted(one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES):
        image = read_image(path, channels)
        if min(image.shape[1:]) >= SIDE:
            found.append(centre(image, SIDE))
        if len(found) == count:
            return found
    raise InputError(
        f"photos: {len(found)} of {SIDE} px or more in {folder}, {count} are needed", "give another folder"
    )


def fresh_key(owner: Owner, scheme: Scheme, channels: int, scale: int = 1) -> Key:
    """Return a new key with a cheap salt."""
    public = scheme.public(Contract(channels, scale))
    return Key.create(owner, public, scheme.leaves, decoder=scheme.decoder, log2_n=1)


def scores(key: Key, photo: Tensor, answer: Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the scores of one answer, of all leaves."""
    secrets = [key.leaf(index)[0] for index in range(key.leaves)]
    return _reader(key).decode_photo(key.scheme, secrets, key.salt, pixels(photo), pixels(answer))


def _reader(key: Key) -> PhotoReader:
    reader = read(key.scheme)
    assert isinstance(reader, PhotoReader)
    return reader


def pixels(image: Tensor) -> Pixels:
    """Return (C, H, W), floats in [0, 1] or uint8, as uint8 (H, W, C)."""
    image = image if image.dtype == torch.uint8 else to_uint8(image)
    array: Pixels = image.permute(1, 2, 0).contiguous().numpy()
    return array


def test_of(key: Key, found: Sequence[np.ndarray[Any, np.dtype[np.int64]]]) -> SignTest:
    """Return the test of the scores of some photos."""
    signs = [_reader(key).bits(key.scheme, key.leaf(index)[1], key.salt) for index in range(key.leaves)]
    return sign_test(np.concatenate(signs), np.sum(found, axis=0), int(key.scheme["levels"]))


def readings(key: Key, found: Sequence[np.ndarray[Any, np.dtype[np.int64]]]) -> Iterator[dict[str, Any]]:
    """Yield what sessions of 1, 3 and 8 photos show, the photos taken in disjoint groups."""
    for count in (each for each in COUNTS if each <= len(found)):
        tests = [test_of(key, found[at : at + count]) for at in range(0, len(found) - count + 1, count)]
        adjusted = [SEARCHED.adjust(test.log10_p) for test in tests]
        yield {
            "photos": count,
            "sessions": len(tests),
            "agree": round(statistics.mean(test.matches / test.bits for test in tests), 3),
            "log10_p_adj_median": round(statistics.median(adjusted), 1),
            "log10_p_adj_worst": round(max(adjusted), 1),
            "matches": sum(one <= -6 for one in adjusted),
        }


def measure(scheme: Behind, name: str, host: nn.Module, photos: list[Tensor], owner: Owner) -> dict[str, Any]:
    """Return one host's fidelity, transport and innocents.

    Args:
        scheme: of the barrier.
        name: of the host.
        host: takes the photos as they are.
        photos: (C, 256, 256).
        owner: of the keys.
    """
    channels = photos[0].shape[0]
    key, other = (fresh_key(owner, scheme, channels) for _ in range(2))
    with evaluating(host):
        plain = [host(photo[None])[0].clamp(0, 1) for photo in photos]
    model = scheme.attach(nn.Identity(), key)  # the host is asked once, its barrier alone here
    with evaluating(model):
        marked = [model(answer[None])[0] for answer in plain]
    pairs = [[to_uint8(x)[None].float() / 255 for x in pair] for pair in zip(marked, plain, strict=True)]
    psnr = [float(peak_signal_noise_ratio(one, two, data_range=1.0)) for one, two in pairs]
    ssim = [float(structural_similarity_index_measure(one, two, data_range=1.0)) for one, two in pairs]  # type: ignore[arg-type]
    transport = []
    channels_of = {label: make() for label, make in CHANNELS.items()}
    channels_of["another owner's barrier on top"] = scheme.attach(nn.Identity(), other).eval()
    for label, channel in channels_of.items():
        with torch.no_grad():
            found = [
                scores(key, photo, channel(to_uint8(answer)[None] / 255)[0])
                for photo, answer in zip(photos, marked, strict=True)
            ]
        transport.append({"channel": label, "read": list(readings(key, found))})
    innocent = []
    for label, secret, answers in (
        ("unmarked host", key, plain),
        ("another owner's mark", other, marked),
        ("the photos themselves", key, photos),
    ):
        found = [scores(secret, *pair) for pair in zip(photos, answers, strict=True)]
        innocent.append({"answers": label, "read": list(readings(secret, found))})
    return {
        "host": name,
        "photos": len(photos),
        "psnr": {"mean": round(statistics.mean(psnr), 2), "least": round(min(psnr), 2)},
        "ssim": {"mean": round(statistics.mean(ssim), 4), "least": round(min(ssim), 4)},
        "transport": transport,
        "innocent": innocent,
    }


def null(scheme: Behind, host: nn.Module, photos: list[Tensor], owner: Owner, keys: int) -> dict[str, Any]:
    """Return how often fresh keys are rejected on an unmarked host, one photo each."""
    with evaluating(host):
        answers = [host(photo[None])[0] for photo in photos]
    found = []
    for number in range(keys):
        key, at = fresh_key(owner, scheme, photos[0].shape[0]), number % len(photos)
        found.append(float(test_of(key, [scores(key, photos[at], answers[at])]).p))
    levels = {}
    for level in LEVELS:
        rejected = sum(p <= level for p in found)
        low, high = clopper_pearson(rejected, keys, 0.99)
        levels[f"at_{level}"] = {"share": rejected / keys, "low": round(low, 4), "high": round(high, 4)}
    return {"keys": keys, **levels, "lowest_p": min(found)}


def cost(scheme: Behind, owner: Owner, runs: int) -> dict[str, Any]:
    """Return seconds of DnCNN and of the barrier behind it at 256 x 256, medians of interleaved runs."""
    channels = channels_of(scheme)
    host = hosts.load("dncnn" if channels == 1 else "dncnn-colour").model
    image = torch.rand(1, channels, SIDE, SIDE)
    model = scheme.attach(nn.Identity(), fresh_key(owner, scheme, channels))
    seconds: dict[str, list[float]] = {"host": [], "barrier": []}
    with evaluating(host):
        for _ in range(runs + 1):
            for name, one in (("host", host), ("barrier", model)):
                began = time.process_time()
                one(image)
                seconds[name].append(time.process_time() - began)
    took = {name: round(statistics.median(values[1:]), 4) for name, values in seconds.items()}
    share = round(took["barrier"] / took["host"], 4)
    name = "DnCNN" if channels == 1 else "DnCNN by colour"
    return {"host": name, "host_seconds": took["host"], "barrier_seconds": took["barrier"], "share": share}


def main(
    tests: hosts.Tests,
    scheme: Annotated[str, typer.Option(help=f"one of {', '.join(SCHEMES)}")] = "filters",
    sets: Annotated[str, typer.Option(help="test set with photos of 256 px or more")] = "Kodak24",
    count: Annotated[int, typer.Option(help="photos", min=8)] = 8,
    keys: Annotated[int, typer.Option(help="fresh keys on an unmarked host")] = 1000,
    out: record.Out = Path("docs/results"),
) -> None:
    """Measure fidelity, sessions of 1, 3 and 8 photos, transport, innocents, fresh keys and cost."""
    if scheme not in SCHEMES:
        raise InputError(f"scheme: there is no barrier of {scheme!r}", f"choose one of {', '.join(SCHEMES)}")
    hosts.reproducible()
    how, owner = SCHEMES[scheme], Owner("Benchmark", Ed25519PrivateKey.generate())
    grey, colour = (crops(tests / sets, channels, count) for channels in (1, 3))
    denoiser = dncnn(pretrained="denoise-25")
    fewest = grey if channels_of(how) == 1 else colour
    bits = test_of(key := fresh_key(owner, how, len(fewest[0])), [scores(key, *fewest[:1] * 2)]).bits
    result = {
        "carriers": scheme,
        "set": sets,
        "hosts": [
            *([measure(how, "DnCNN, grey", denoiser, grey, owner)] if fewest is grey else []),
            measure(how, "DnCNN by colour", hosts.ByChannel(denoiser), colour, owner),
            measure(how, "median filter, colour", Median(), colour, owner),
        ],
        "null": null(how, Median(), [one[:, :128, :128] for one in fewest[:8]], owner, keys),
        "cost": cost(how, owner, 5),
    }
    record.write(
        f"barrier-{scheme}",
        out,
        result,
        seed=0,
        notes=f"{scheme}: {bits} bits, clean photos of 256 px, 60 bits of search charged, fresh keys",
    )


if __name__ == "__main__":
    typer.run(main)
