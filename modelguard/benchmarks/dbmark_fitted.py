"""Tables 2 and 3 of the DBMARK paper with marks as strong as each image needs, beside a fixed strength.

Embedding tries what JPEG 50, and Gaussian blur where the setting has it, makes of the marked image: these two
are always the same, so their errors are known beforehand. The other distortions of the setting are drawn anew
for each image; JPEG 40, 60 and 4:4:4 are none that was tried. Images are shrunk whole to the square of the
net, as in the paper, and rounded to 8 bits once marked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.dbmark import PAPER, SETS, Codec, Payloads, Sets, Setting, Strength, squares
from modelguard.benchmarks.train_dbmark import setting_of, through
from modelguard.codecs import DBMark
from modelguard.datasets import ImageSet, mixed_seed, to_uint8
from modelguard.distortions import Jpeg
from modelguard.errors import EmbeddingError
from modelguard.statistics import clopper_pearson

UNTRIED: dict[str, nn.Module] = {
    "jpeg 40": Jpeg(40),
    "jpeg 60": Jpeg(60),
    "jpeg 50, 4:4:4": Jpeg(50, "4:4:4"),
}


def tried(setting: str) -> dict[str, nn.Module]:
    """Return the distortions of a setting that make the same of an image each time, by name."""
    every = setting_of(setting).distortions
    return {name: every[name] for name in ("jpeg 50", "blur 2") if name in every}


@torch.no_grad()
def measure(
    codec: DBMark,
    images: Tensor,
    payloads: int,
    strength: float,
    setting: str,
    survives: dict[str, nn.Module],
) -> dict[str, Any]:
    """Return PSNR and SSIM after rounding, and wrong bits by distortion.

    Args:
        codec: that marks.
        images: (B, 3, side, side) in [0, 1], of the square of the net.
        payloads: random messages an image.
        strength: factor on the residual.
        setting: whose distortions are used, and `UNTRIED`.
        survives: what embedding tries; the strength is fixed if there is none.
    """
    distortions = {**setting_of(setting).distortions, **UNTRIED}
    wrong = dict.fromkeys(distortions, 0)
    psnrs, ssims, refused = [], [], 0
    for number in range(payloads):
        torch.manual_seed(mixed_seed(1, number))
        bits = torch.randint(0, 2, (len(images), codec.bits), dtype=torch.uint8)
        for image, right in zip(images[:, None], bits, strict=True):
            try:
                marked = codec.mark(image, right.numpy(), strength, list(survives.values()))
            except EmbeddingError:
                refused += 1
                continue
            marked = to_uint8(marked).float() / 255
            psnrs.append(float(-10 * torch.log10((marked - image).pow(2).mean())))
            ssims.append(float(structural_similarity_index_measure(marked, image, data_range=1.0)))  # type: ignore[arg-type]
            for name, distortion in distortions.items():
                soft = codec.net.extract(through(distortion, marked, image))[0]
                wrong[name] += int(((soft > 0) != right.bool()).sum())
    count = len(psnrs)
    return {
        "marks": count,
        "refused": refused,
        "psnr": round(sum(psnrs) / count, 3),
        "least_psnr": round(min(psnrs), 3),
        "ssim": round(sum(ssims) / count, 4),
        "wrong": wrong,
        "upper": {name: clopper_pearson(one, count * codec.bits)[1] for name, one in wrong.items()},
        "bits": count * codec.bits,
    }


def main(
    tests: hosts.Tests,
    codec: Codec = "jpeg-64",
    setting: Setting = None,
    sets: Sets = None,
    payloads: Payloads = 5,
    strength: Strength = 1.0,
    out: record.Out = Path("docs/results"),
) -> None:
    """Measure bit errors and quality with fixed and with fitted strengths, all sets together."""
    loaded = DBMark.from_pretrained(codec)
    setting = setting or loaded.name
    survives = tried(setting)
    side = loaded.net.sizes.side
    whole = [ImageSet.from_folder(tests / name, 3, smallest=side) for name in sets or SETS]
    images = torch.cat([squares(images, side) for images in whole])
    rows = {
        "codec": loaded.name,
        "paper": PAPER.get(setting, {}),
        "strength": strength,
        "images": len(images),
        "tried": list(survives),
        "fixed": measure(loaded, images, payloads, strength, setting, {}),
        "fitted": measure(loaded, images, payloads, strength, setting, survives),
    }
    notes = "images shrunk to the codec's size; 8 bits"
    record.write(f"dbmark_fitted-{loaded.name}", out, rows, seed=1, notes=notes)


if __name__ == "__main__":
    typer.run(main)
