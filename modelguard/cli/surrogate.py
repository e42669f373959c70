"""`modelguard attack surrogate`: train thieves on the answers of a marked model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelguard.cli.app import MATCH
from modelguard.cli.naming import MODEL_HELP, WEIGHTS_HELP, load_model, named_number
from modelguard.cli.output import emit, note, table
from modelguard.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from modelguard.attacks import SurrogateReport
    from modelguard.datasets import ImageSet, Task
    from modelguard.evidence import Key

SEVERAL = "Repeat it for several; every combination is a cell."


def surrogate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for a report and weights of each cell.")],
    weights: Annotated[Path, typer.Option(help=WEIGHTS_HELP)],
    key: Annotated[Path, typer.Option(help="Key file of the mark.")],
    data: Annotated[Path, typer.Option(help="Folder of clean images the thief has.")],
    test: Annotated[Path, typer.Option(help="Folder of clean images that he does not have, to measure on.")],
    host: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|FILE",
            help="The unmarked model: another MODEL, or weights for this one. Needed to see what part of the "
            "mark is left.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="What the model undoes: noise=SIGMA in grey levels (25 by default), rain or ribs. For "
            "models that keep the size.",
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="cnet, res9, res16, unet or transformer, with another width behind a dash if need be, or "
            f"timm-ENCODER; unet-16 by default. {SEVERAL}"
        ),
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="l1, l2, perceptual, gradients, adversarial or a sum such as l1+adversarial; l1 by default. "
            + SEVERAL
        ),
    ] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            help="none, flips, crop, resize, jpeg, a sum such as flips+crop, or all; none by default. "
            + SEVERAL
        ),
    ] = None,
    share: Annotated[
        list[float] | None, typer.Option(help=f"Part of --data that he has; 1 by default. {SEVERAL}")
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What his service does to its answers: jpeg=QUALITY, blur=SIGMA, noise=SIGMA, median=SIZE, "
            "resize=SCALE. Repeat it for several; each is measured beside none.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps at most.")] = 20_000,
    patience: Annotated[
        int, typer.Option(min=1, help="Checks without improvement after which training ends.")
    ] = 10,
    check_every: Annotated[int, typer.Option(min=1, help="Steps between checks.")] = 500,
    batch: Annotated[int, typer.Option(min=1, help="Patches a step.")] = 16,
    patch: Annotated[
        int, typer.Option(min=1, help="Side of a patch in pixels; smaller images of --data are left out.")
    ] = 128,
    lr: Annotated[float, typer.Option(help="Peak learning rate, for Muon.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Of weights, patches and shares.")] = 0,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Questions put to each for the verdict: 1 trigger by default, or 64 photos of --test, all "
            "if there are fewer.",
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of the verdict.")] = 1e-6,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip what is finished in OUT, and go on with what is not.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Train thieves on the answers of a marked model; show what they are worth, and what of the mark is left.

    A thief who is far worse than the model is no theft: read all columns. Each thief is a cell; OUT gets
    CELL.json, CELL.safetensors and, if the unmarked model is known, CELL.png for each, and may be used again
    with --resume after any interruption.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha} is no level", "use a number between 0 and 1, such as 1e-6")
    marked = load_model(model, weights)
    unmarked = _unmarked(model, marked, host)

    from modelguard.attacks import Loot, Surrogate, surrogate_cells, surrogate_matrix
    from modelguard.datasets import ImageSet
    from modelguard.evidence import Key

    secret = Key.load(key)
    channels, scale = int(secret.scheme["channels"]), int(secret.scheme["scale"])
    base = Surrogate(
        "unet-16",
        steps=steps,
        patience=patience,
        check_every=check_every,
        batch=batch,
        patch=patch,
        lr=lr,
        seed=seed,
        progress="training the thief",
    )
    cells = surrogate_cells(base, network or ["unet-16"], loss or ["l1"], augment or ["none"], share or [1.0])
    through = {one: _channel(one) for one in channel or ()}
    loot = Loot(ImageSet.from_folder(data, channels, smallest=patch * scale), _task(task, scale))
    held_out = ImageSet.from_folder(test, channels)
    try:
        reports = surrogate_matrix(
            cells,
            marked,
            loot,
            held_out,
            out,
            host=unmarked,
            strength=strength(secret, held_out, queries),
            measured_by=f"{secret.root.hex()} {queries}",
            channels=through,
            resume=resume,
            on_cell=lambda number, cell: note(f"[{number + 1}/{len(cells)}] {cell.name}"),
        )
    except KeyboardInterrupt:
        note(f"to go on: the same command with --resume; {out} holds what is done")
        raise
    records = [_record(one, alpha) for one in reports]
    rows = [row for record in records for row in _rows(record)]
    columns = ("thief", "answers", "task dB", "fidelity dB", "kept", "log10 p", "verdict")
    first = reports[0].protected
    title = f"{model}: {first.psnr:.2f} dB, log10 p {first.log10_p:.1f}"
    result = {"model": model, "alpha": alpha, "protected": asdict(first), "cells": records}
    emit(result, table(title, columns, rows), as_json)
    return MATCH


def strength(key: Key, photos: ImageSet, queries: int | None = None) -> Callable[[nn.Module], float]:
    """Return what reads a mark in a model, as log10 of the adjusted p-value.

    Args:
        key: of the mark.
        photos: to ask, for a mark that is in every answer.
        queries: triggers or photos; 1 or 64 by default, or as many usable photos as there are.
    """
    from modelguard.certifying import registration_of
    from modelguard.protecting import askable
    from modelguard.schemes import PhotoReader, reader_of
    from modelguard.verifying import verify

    reader = reader_of(registration_of(key))
    if isinstance(reader, PhotoReader):
        usable = askable(photos, reader)
        count = queries or min(64, len(usable))
        return lambda one: verify(one, key, photos=usable, queries=count).log10_p_adj
    return lambda one: verify(one, key, queries=queries).log10_p_adj


def _record(report: SurrogateReport, alpha: float) -> dict[str, Any]:
    record = asdict(report)
    del record["protected"]
    for one in record["survival"]:
        one["verdict"] = "match" if one["log10_p"] <= math.log10(alpha) else "inconclusive"
    return record


def _rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            record["name"],
            one["channel"],
            f"{one['psnr']:.2f}",
            f"{one['fidelity']:.2f}",
            "" if one["retained"] is None else f"{one['retained']:.2f}",
            f"{one['log10_p']:.1f}",
            one["verdict"],
        )
        for one in record["survival"]
    ]


def _unmarked(name: str, marked: nn.Module, host: str | None) -> nn.Module | None:
    """Return the unmarked model: that of --host, or the one that the marked model shows as `host`."""
    if host is not None:
        if not Path(host).exists() and (host.endswith(".safetensors") or "/" in host):
            raise InputError(f"host: there is no file {host}", "check the path, or give the name of a MODEL")
        return load_model(name, Path(host)) if Path(host).exists() else load_model(host)
    from torch import nn

    shown = getattr(marked, "host", None)
    return shown if isinstance(shown, nn.Module) else None


def _task(text: str | None, scale: int) -> Task:
    from modelguard.datasets import Downscale, GaussianNoise, RainStreaks, RibBands

    if scale > 1:
        if text is not None:
            raise InputError(f"task: the model enlarges {scale} times", "leave it out")
        return Downscale(scale)
    name, value = named_number("task", text or "noise", 25)
    if name == "noise":
        return GaussianNoise(value)
    if text in ("rain", "ribs"):
        return RainStreaks() if text == "rain" else RibBands()
    raise InputError(f"task: {text!r} is not known", "use noise=SIGMA, rain or ribs")


def _channel(text: str) -> nn.Module:
    from modelguard.distortions import Blur, Jpeg, Median, Noise, Resize

    makers: dict[str, Callable[[float], nn.Module]] = {
        "jpeg": lambda quality: Jpeg(int(quality)),
        "blur": Blur,
        "noise": Noise,
        "median": lambda size: Median(int(size)),
        "resize": Resize,
    }
    name, value = named_number("channel", text, math.nan, ("jpeg", "median"))
    if name not in makers or math.isnan(value):
        raise InputError(f"channel: {text!r} is not known", f"write NAME=VALUE for {', '.join(makers)}")
    return makers[name](value)
