"""Train RIIS nets that differ in one thing, with the same budget and seed, and compare them.

`parts` leaves out one part of the net or of its training at a time (Table 1), from the beginning and at a
size that can be trained five times. `levels` trains the weights of `--start` on, for one distortion each and
for all of them (RIIS*, Table 3).

    modelguard bench riis_variants parts --data photos/ --tests Kodak24/ --run runs/parts
    modelguard bench riis_variants levels --data photos/ --tests Kodak24/ --run runs/levels

Ctrl-C loses nothing that a checkpoint holds: the same command goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from modelguard.benchmarks import record, train_riis
from modelguard.benchmarks.publish_riis import finished
from modelguard.benchmarks.train_riis import TESTED, held_out, validate

PARTS: dict[str, dict[str, bool]] = {
    "all parts": {},
    "without 2DT": {"two_stages": False},
    "without CANP": {"canp": False},
    "without CEM": {"cem": False},
    "without DGM": {"dgm": False},
}
LEVELS = ("robust-1", "sigma-1", "sigma-10", "poisson", "jpeg-40", "jpeg-90")


def main(
    compare: Annotated[Literal["parts", "levels"], typer.Argument(help="what is varied")],
    data: Annotated[Path, typer.Option(help="folder of training images")],
    tests: Annotated[Path, typer.Option(help="folder of test images")],
    run: Annotated[Path, typer.Option(help="folder of the runs; what it holds goes on")],
    start: Annotated[str, typer.Option(help="of `levels`: a name that ships, or a file")] = "robust-1",
    steps: Annotated[int, typer.Option(help="of each net")] = 800,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 1e-3,
    side: Annotated[int, typer.Option(help="of the patches, px, a multiple of 8")] = 64,
    blocks: Annotated[int, typer.Option(help="of `parts`: flow blocks")] = 4,
    container: Annotated[float, typer.Option(help="weight of the container in the loss")] = 2.0,
    limit: Annotated[int, typer.Option(help="test images at most")] = 24,
    seed: Annotated[int, typer.Option()] = 0,
    out: record.Out = Path("docs/results"),
) -> None:
    """Train what is compared, validate each on centres of 256 px, and write riis_variants-*.json."""
    groups = held_out(tests, 1, 256, limit)
    variants: dict[str, tuple[str, dict[str, Any]]] = (
        {name: ("robust-1", {"blocks": blocks, **changed}) for name, changed in PARTS.items()}
        if compare == "parts"
        else {name: (name, {"start": start}) for name in LEVELS}
    )
    rows: dict[str, Any] = {}
    for name, (setting, options) in variants.items():
        folder = run / name.replace(" ", "-")
        train_riis.main(
            setting,
            data,
            run=folder,
            resume=(folder / "config.json").is_file(),
            steps=steps,
            side=side,
            lr=lr,
            optimiser="muon",
            container=container,
            seed=seed,
            **options,
        )
        rows[name] = validate(finished(folder)[0], groups, TESTED)
    content = {
        "compared": compare,
        "start": start if compare == "levels" else None,
        "steps": steps,
        "images": len(groups),
        "variants": rows,
    }
    notes = f"patches of {side} px, batches of 8; centres of 256 px of {tests.name}; 8 bits"
    record.write(f"riis_variants-{compare}", out, content, seed=seed, notes=notes)
