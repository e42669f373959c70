"""How good the shipped hosts are on the published sets, beside the printed figure and doing nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from modelguard.benchmarks import hosts, record
from modelguard.networks import Upscaled

PUBLISHED = {
    ("dncnn", "Set12"): 30.41,
    ("dncnn", "BSD68"): 29.20,
    ("red", "Set12"): 30.28,
    ("red", "BSD68"): 29.11,
    ("vdsr-2", "Set14"): 32.83,
    ("vdsr-3", "Set14"): 29.66,
    ("vdsr-4", "Set14"): 27.87,
}
"""PSNR in dB of the unmarked hosts of Quan et al., tables I and II."""
SHIPPED = ("dncnn", "red", "vdsr-2", "vdsr-3", "vdsr-4")
NOTES = "no model: the noisy input, or bicubic up-scaling"
INDEPENDENT = ("kair", "vdsr-public-2", "vdsr-public-3", "vdsr-public-4")


def main(
    tests: hosts.Tests,
    weights: Annotated[
        Path | None, typer.Option("--hosts", help="folder of independent weights, measured too if given")
    ] = None,
    host: Annotated[list[str] | None, typer.Option(help=f"by default {', '.join(SHIPPED)}")] = None,
    tag: Annotated[str, typer.Option(help="added to the name of the result")] = "",
    out: record.Out = Path("docs/results"),
) -> None:
    """Measure PSNR with answers rounded to 8 bits."""
    hosts.reproducible()
    rows: list[dict[str, Any]] = []
    for name in host or (*SHIPPED, *(INDEPENDENT if weights else ())):
        source = hosts.load(name, weights)
        idle = Upscaled(nn.Identity(), source.border) if source.border else nn.Identity()
        for test in source.sets:
            rows.append(
                {
                    "host": name,
                    "parameters": sum(p.numel() for p in source.model.parameters()),
                    "set": test,
                    "images": len(source.images(tests, test)),
                    "psnr": round(source.psnr(source.model, tests, test), 3),
                    "published": PUBLISHED.get((name, test)),
                    "without_model": round(source.psnr(idle, tests, test), 3),
                }
            )
            record.write(f"hosts{tag}", out, rows, seed=0, notes=NOTES)


if __name__ == "__main__":
    typer.run(main)
