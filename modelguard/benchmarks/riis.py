"""Tables 1, 3 and 4 and Figure 9 of the RIIS paper with our weights, and what else a user must know.

Containers and what becomes of them are rounded to 8 bits before anything is measured, unless it says so.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.riis_applications import colouring, locating, photographing
from modelguard.benchmarks.train_riis import TESTED, held_out, psnr, validate
from modelguard.codecs import RIIS
from modelguard.codecs.tiles import tiled
from modelguard.datasets import to_uint8
from modelguard.distortions import Jpeg, Noise
from modelguard.networks import evaluating
from modelguard.networks.riis import RIISNet

PAPER: dict[str, dict[str, Any]] = {
    "robust-1": {
        "sigma 10": 28.03,
        "sigma 1": 30.01,
        "Poisson": 27.23,
        "JPEG 40": 27.18,
        "JPEG 90": 28.44,
    },
    "sigma-10": {"sigma 10": 28.22},
    "sigma-1": {"sigma 1": 30.32},
    "poisson": {"Poisson": 27.47},
    "jpeg-40": {"JPEG 40": 27.32},
    "jpeg-80": {"JPEG 80": 28.25},
    "jpeg-90": {"JPEG 90": 28.71},
    "clean-1": {"container": 43.97, "clean": 46.71},
    "clean-5": {"container": 35.92, "clean": 38.13},
}
"""PSNR in dB of Tables 1, 3 (RIIS* for one net) and 4; the paper states no container under distortion."""

CURVE: dict[str, Callable[[], nn.Module]] = {
    **{f"sigma {sigma}": partial(Noise, sigma) for sigma in (1, 2, 4, 6, 8, 10)},
    **{f"JPEG {quality}": partial(Jpeg, quality) for quality in (40, 50, 60, 70, 80, 90)},
}
"""The distortions of Figure 9."""


class LeastBits(nn.Module):
    """The trivial baseline: the upper four bits of a secret in the lower four of the host."""

    def hide(self, host: Tensor, secrets: Tensor) -> Tensor:
        """Return the container; see `RIISNet.hide`."""
        container = (to_uint8(host) & 0xF0) | (to_uint8(secrets[:, 0]) >> 4)
        return container.float() / 255

    def reveal(self, picture: Tensor) -> Tensor:
        """Return the secrets, the lost bits at their mean."""
        return (((to_uint8(picture) & 0x0F) << 4) | 0x08).float()[:, None] / 255


def baseline(groups: Tensor) -> dict[str, Any]:
    """Return PSNRs in dB of `LeastBits` as `validate` does."""
    host, secrets = groups[:, 0], groups[:, 1:2]
    net = LeastBits()
    container = net.hide(host, secrets)
    revealed = {name: net.reveal(make()(container)) for name, make in TESTED.items()}
    return {
        "container": round(psnr(container, host), 3),
        "secret": {name: round(psnr(one, secrets), 3) for name, one in revealed.items()},
    }


def unrounded(net: RIISNet, groups: Tensor) -> dict[str, float]:
    """Return PSNRs in dB of containers and secrets that never were 8 bits, as in most papers."""
    host, secrets = groups[:, 0], groups[:, 1:]
    with evaluating(net):
        container = net.hide(host, secrets)
        revealed = net.reveal(container)[1]
    pairs = {"container": (container, host), "clean": (revealed, secrets)}
    return {
        name: round(float((-10 * torch.log10((one - other).square().flatten(1).mean(1))).mean()), 3)
        for name, (one, other) in pairs.items()
    }


def seams(net: RIISNet, groups: Tensor, tile: int, overlap: int) -> dict[str, float]:
    """Return how far containers made in tiles are from those made whole, in 8-bit grey levels."""

    def work(part: Tensor) -> Tensor:
        first, *others = part.chunk(groups.shape[1], 1)
        return net.hide(first, torch.stack(others, 1))

    joined = groups.flatten(1, 2)
    with evaluating(net):
        difference = 255 * (tiled(work, joined, tile, overlap) - work(joined)).abs()
    return {
        "tile": tile,
        "overlap": overlap,
        "mean_levels": round(float(difference.mean()), 4),
        "largest_levels": round(float(difference.max()), 3),
    }


def cost(codec: RIIS, sides: list[int]) -> list[dict[str, Any]]:
    """Return seconds and peak memory of hiding and revealing squares, in order of size."""
    rows: list[dict[str, Any]] = []
    for side in sorted(sides):
        pictures = torch.rand(1 + codec.capacity, 3, side, side, generator=torch.Generator().manual_seed(0))
        pixels = [to_uint8(one) for one in pictures]
        began = time.perf_counter()
        container = codec.hide(pixels[0], pixels[1:])
        hidden = time.perf_counter()
        codec.reveal(container)
        rows.append(
            {
                "side": side,
                "hide_seconds": round(hidden - began, 2),
                "reveal_seconds": round(time.perf_counter() - hidden, 2),
                "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )
    return rows


def main(
    tests: hosts.Tests,
    codec: Annotated[str, typer.Option(help="weights: a name that ships, or a file")] = "robust-1",
    sets: Annotated[list[str] | None, typer.Option("--set", help="default Kodak24, COCO_val2017")] = None,
    limit: Annotated[int, typer.Option(help="hosts of a set at most")] = 24,
    side: Annotated[int, typer.Option(help="of the centres that are used, px, a multiple of 8")] = 256,
    trials: Annotated[int, typer.Option(help="QR codes that are photographed")] = 100,
    speed: Annotated[bool, typer.Option(help="also time squares of 512 and 2048 px")] = True,
    out: record.Out = Path("docs/results"),
) -> None:
    """Measure containers and revealed secrets under every distortion, told and guessed."""
    loaded = RIIS.from_pretrained(codec)
    rows: dict[str, Any] = {"codec": loaded.name, "secrets": loaded.capacity}
    rows["paper"], rows["sets"] = PAPER.get(loaded.name, {}), {}
    if speed:  # first, for the peak of memory never falls
        rows["cost"] = cost(loaded, [512, 2048])
    for name in sets or ["Kodak24", "COCO_val2017"]:
        groups = held_out(tests / name, loaded.capacity, side, limit)
        host = groups[:, 0]
        measured = validate(loaded.net, groups, TESTED)
        with evaluating(loaded.net):
            container = to_uint8(loaded.net.hide(host, groups[:, 1:])).float() / 255
        ssim = structural_similarity_index_measure(container, host, data_range=1.0)
        rows["sets"][name] = {
            "images": len(groups),
            **measured,
            "ssim": round(float(ssim), 4),  # type: ignore[arg-type]
            "unrounded": unrounded(loaded.net, groups),
            "curve": validate(loaded.net, groups, CURVE),
            "least_bits": baseline(groups),
            "locating": locating(loaded, groups),
            "photographing": photographing(loaded, groups, trials),
            "colouring": colouring(loaded, groups),
            "seams": seams(loaded.net, groups[:4], tile=side // 2, overlap=side // 8),
        }
    notes = f"centres of {side} px; 8 bits; each picture hides its successors in the set"
    record.write(f"riis-{loaded.name}", out, rows, seed=0, notes=notes)


if __name__ == "__main__":
    typer.run(main)
