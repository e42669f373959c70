"""Tables 2 and 3 of the DBMARK paper with our weights, and what else a user of a codec must know.

Images are shrunk whole to 128 x 128, as in the paper. Marked images are rounded to 8 bits before anything is
measured or distorted.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from modelguard import photos
from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.train_dbmark import setting_of, through
from modelguard.codecs import ALPHA, DBMark
from modelguard.datasets import ImageSet, mixed_seed, to_uint8
from modelguard.networks import bicubic, evaluating
from modelguard.statistics import clopper_pearson

SETS = ("COCO_val2017", "VOC2012", "Kodak24", "CBSD68")
PAPER: dict[str, dict[str, float]] = {
    "jpeg-64": {"psnr": 39.75, "ssim": 0.9486, "jpeg 50": 0.000018},
    "combined-30": {
        "psnr": 34.8,
        "identity": 0,
        "cropout .3": 0.00002,
        "dropout .3": 0.000013,
        "crop .035": 0.0374,
        "blur 2": 0,
        "jpeg 50": 0,
    },
}
"""Tables 2 and 3; bit error rates as parts."""
WATCHED = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""
"""Runs a command from a small process: a fork counts the memory of whoever forked."""
LEVELS = (0.1, 0.01, 0.001, 1e-4, 1e-5, ALPHA)
Codec = Annotated[str, typer.Option(help="weights: a name that ships, or a file")]
Setting = Annotated[str | None, typer.Option(help="whose distortions; by default the codec's")]
Sets = Annotated[list[str] | None, typer.Option("--set", help=f"default {', '.join(SETS)}")]
Payloads = Annotated[int, typer.Option(help="random messages an image")]
Strength = Annotated[float, typer.Option(help="factor on the residual")]


def squares(images: ImageSet, side: int) -> Tensor:
    """Return images shrunk whole to squares, as the paper does, and rounded to 8 bits, (B, 3, side, side)."""
    small = torch.cat([bicubic(image[None], (side, side)).clamp(0, 1) for image in images])
    return to_uint8(small).float() / 255


@torch.no_grad()
def measure(codec: DBMark, images: Tensor, payloads: int, strength: float, setting: str) -> dict[str, Any]:
    """Return PSNR and SSIM after rounding, and wrong bits by distortion.

    Args:
        codec: whose net is asked directly, at its own size.
        images: (B, 3, side, side) in [0, 1].
        payloads: random messages an image.
        strength: factor on the residual.
        setting: whose distortions are used.
    """
    distortions = setting_of(setting).distortions
    wrong = dict.fromkeys(distortions, 0)
    psnrs, ssims = [], []
    with evaluating(codec.net):
        for number in range(payloads):
            torch.manual_seed(mixed_seed(1, number))
            bits = torch.randint(0, 2, (len(images), codec.bits))
            marked = images + strength * (codec.net.embed(images, bits) - images)
            marked = to_uint8(marked).float() / 255
            psnrs.append(-10 * torch.log10((marked - images).pow(2).mean((1, 2, 3))))
            ssims.append(structural_similarity_index_measure(marked, images, data_range=1.0))
            for name, distortion in distortions.items():
                soft = codec.net.extract(through(distortion, marked, images))
                wrong[name] += int(((soft > 0) != bits.bool()).sum())
    bits_sent = payloads * len(images) * codec.bits
    return {
        "images": len(images),
        "payloads": payloads,
        "psnr": round(float(torch.stack(psnrs).mean()), 3),
        "ssim": round(float(torch.stack(ssims).mean()), 4),  # type: ignore[arg-type]
        "bits": bits_sent,
        "wrong": wrong,
    }


def pooled(sets: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the wrong bits of all sets by distortion, and upper bounds of the error rates, 97.5 % sure."""
    each = list(sets)
    bits = sum(one["bits"] for one in each)
    wrong = {name: sum(one["wrong"][name] for one in each) for name in each[0]["wrong"]}
    return {
        "bits": bits,
        "wrong": wrong,
        "upper": {name: clopper_pearson(count, bits)[1] for name, count in wrong.items()},
    }


@torch.no_grad()
def averaging_leak(codec: DBMark, images: Tensor) -> float:
    """Return how alike a residual is to the mean residual of other images with the same payload, -1 to 1.

    Near 1, whoever averages a few marked images can forge the mark; it is the mean over images, each left out
    of its mean in turn.
    """
    bits = torch.from_numpy(codec.payload(1))[None].expand(len(images), -1)
    with evaluating(codec.net):
        residuals = (codec.net.embed(images, bits) - images).flatten(1)
    others = (residuals.sum(0) - residuals) / (len(images) - 1)
    return float(torch.nn.functional.cosine_similarity(residuals, others).mean())


def false_finds(codec: DBMark, images: ImageSet, crops: int, seed: int = 0) -> dict[str, Any]:
    """Return how often random squares of unmarked images seem to hold a message, or bits drawn at random.

    Args:
        codec: that searches.
        images: unmarked.
        crops: squares of random place and size, at least the codec's own.
        seed: of the squares.
    """
    side, random = codec.net.sizes.side, np.random.default_rng(seed)
    found, tested = [], []
    for start in range(0, crops, 256):
        squares = []
        for _ in range(min(256, crops - start)):
            image = images[int(random.integers(len(images)))]
            size = int(random.integers(side, min(image.shape[1:]) + 1))
            top, left = (int(random.integers(extent - size + 1)) for extent in image.shape[1:])
            squares.append(bicubic(image[None, :, top : top + size, left : left + size], (side, side)))
        for read in codec.extract_batch(torch.cat(squares).clamp(0, 1)):
            message = read.message()
            found.append(0.0 if message is None else message.log10_p)
            tested.append(read.test(random.integers(0, 2, codec.bits)).log10_p)
    return {
        "crops": crops,
        "found_at": _counts(found),
        "smallest_log10_p": round(min(found), 2),
        "bits_found_at": _counts(tested),
    }


def _counts(log10_p: list[float]) -> dict[str, int]:
    return {f"{level:g}": int((np.array(log10_p) <= np.log10(level)).sum()) for level in LEVELS}


def folders(codec: str, picture: Path, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Return seconds and peak memory of `modelguard embed` on folders of copies of a picture, by their size.

    Args:
        codec: as given to the command.
        picture: a file.
        counts: of copies.
    """
    rows: list[dict[str, Any]] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            (given := Path(folder) / "in").mkdir()
            for number in range(count):
                shutil.copy(picture, given / f"{number}{picture.suffix}")
            words = ["embed", str(given), f"{folder}/out", "--id", "1", "--codec", f"dbmark:{codec}"]
            began = time.perf_counter()
            command = [sys.executable, "-c", WATCHED, sys.executable, "-m", "modelguard", *words]
            peak = int(subprocess.run(command, check=True, capture_output=True).stdout) // 1024
            seconds = time.perf_counter() - began
        rows.append({"images": count, "seconds": round(seconds, 1), "peak_megabytes": peak})
    return rows


def main(
    tests: hosts.Tests,
    codec: Codec = "combined-30",
    setting: Setting = None,
    sets: Sets = None,
    payloads: Payloads = 25,
    strength: Strength = 1.0,
    crops: Annotated[int, typer.Option(help="unmarked squares searched for marks")] = 100_000,
    folder: Annotated[list[int] | None, typer.Option(help="images of folders that are timed")] = None,
    out: record.Out = Path("docs/results"),
) -> None:
    """Measure bit errors and quality beside the paper's figures, false finds and the averaging leak."""
    loaded = DBMark.from_pretrained(codec)
    setting = setting or loaded.name
    setting_of(setting)  # an unknown one is told before any work
    rows: dict[str, Any] = {"codec": loaded.name, "strength": strength, "paper": PAPER.get(setting, {})}
    whole = {
        name: ImageSet.from_folder(tests / name, 3, smallest=loaded.net.sizes.side) for name in sets or SETS
    }
    rows["sets"], shrunk = {}, []
    for name, images in whole.items():
        small = squares(images, loaded.net.sizes.side)
        rows["sets"][name] = measure(loaded, small, payloads, strength, setting)
        shrunk.append(small)
    rows |= pooled(rows["sets"].values())
    rows["averaging_leak"] = round(averaging_leak(loaded, torch.cat(shrunk)), 3)
    rows["folders"] = folders(codec, photos.FOLDER / "cat.jpg", folder or [20, 80])
    everything = ImageSet(tuple(image for images in whole.values() for image in images.images))
    rows["unmarked"] = false_finds(loaded, everything, crops)
    record.write(
        f"dbmark-{loaded.name}",
        out,
        rows,
        seed=1,
        notes="images shrunk to the codec's size; 8 bits",
    )


if __name__ == "__main__":
    typer.run(main)
