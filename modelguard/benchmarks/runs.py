"""What training commands share: a folder that belongs to one run, its validations, its weights at the end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from modelguard import weights
from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError

VALIDATION = "validation.jsonl"
Name = Annotated[str | None, typer.Option(help="of the weights; by default the setting's")]
Valid = Annotated[Path | None, typer.Option(help="folder of images; default: the shipped photos")]
Licence = Annotated[str, typer.Option(help="what the card shall say of the training images' licence")]
Shipped = Annotated[Path, typer.Option(help="folder for the weights and their card")]


def main_process() -> bool:
    """Return whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def claim(run: Path, about: dict[str, Any], resume: bool) -> None:
    """Write down in `run` what is trained there; raises InputError rather than spoil another run."""
    if not main_process():
        return
    path = run / "config.json"
    if path.is_file():
        begun = json.loads(path.read_text())
        if not resume:
            raise InputError(f"run: {run} holds a run already", "resume it, or choose another folder")
        if any(begun.get(name) != about.get(name) for name in ("setting", "sizes", "start")):
            raise InputError(
                f"run: {run} holds a run of another setting, of other sizes or from another start",
                f"resume with those in {path}, or choose another folder",
            )
    atomic_write_bytes(path, (json.dumps(about, indent=1) + "\n").encode(), overwrite=True)


def note_validation(run: Path, row: dict[str, Any]) -> None:
    """Print a validation as a line, and add it to those of the run."""
    print(json.dumps(row), flush=True)
    with (run / VALIDATION).open("a") as file:
        file.write(json.dumps(row) + "\n")


def publish(
    net: nn.Module,
    name: str,
    about: dict[str, Any],
    validate: Callable[[], dict[str, Any]],
    run: Path,
    out: Path,
    config: dict[str, Any],
) -> None:
    """Round the weights to fp16, validate those, and write them with their card.

    Args:
        net: trained; its weights are rounded.
        name: of the files.
        about: for the card.
        validate: of the rounded net.
        run: folder of the training, whose validations are the card's learning curve.
        out: folder for the files.
        config: kept in the file; see `weights.publish`.
    """
    net.half().float()
    versions = {"python": sys.version.split()[0], "torch": torch.__version__}
    curve = [json.loads(row) for row in (run / VALIDATION).read_text().splitlines()]
    card = {**about, "validation": validate(), "curve": curve, "versions": versions}
    weights.publish(net, name, card, out, config=config)
