"""`modelguard reveal`: get hidden pictures back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelguard.cli.app import INCONCLUSIVE, MATCH
from modelguard.cli.hide import PREVIEW_HELP, RIIS_HELP
from modelguard.cli.output import emit
from modelguard.cli.sheet import check_preview, draw_sheet
from modelguard.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from modelguard.cli.sheet import Tile

DISTORTION_HELP = "What happened to it: `none`, `noise:SIGMA`, `poisson`, `jpeg:QUALITY`; else guessed."


def reveal(
    container: Annotated[Path, typer.Argument(metavar="IN", help="Picture that may be a container.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for host.png and secret-1.png to secret-N.png.")
    ],
    distortion: Annotated[str | None, typer.Option(help=DISTORTION_HELP)] = None,
    codec: Annotated[str, typer.Option(help=RIIS_HELP)] = "riis:robust-1",
    preview: Annotated[Path | None, typer.Option(help=PREVIEW_HELP)] = None,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Reveal the pictures hidden in a container, and what it was made from.

    Whatever the picture, something is revealed and written; the score says whether to believe it. Exit code
    0 if it looks like a container, 1 if not: it may be none, or one that was resized, turned or cut.
    """
    from modelguard.cli.many import load_riis
    from modelguard.codecs.files import check_target, write_picture
    from modelguard.codecs.pictures import read

    known = parse_distortion(distortion)
    loaded = load_riis(codec)
    names = ["host", *(f"secret-{number}" for number in range(1, loaded.capacity + 1))]
    targets = [out / f"{name}.png" for name in names]
    for target in targets:
        check_target(target, force=force)
    check_preview(preview, *targets, force=force)
    picture = read(container)
    found = loaded.reveal(picture, known)
    pictures = dict(zip(names, (found.host, *found.secrets), strict=True))
    for name, one in pictures.items():
        write_picture(one, out / f"{name}.png", force=force)
    if preview is not None:
        tiles: list[Tile] = [("container", f"score {found.score:.2f}", picture)]
        tiles += [(name, "", one) for name, one in pictures.items()]
        draw_sheet(preview, tiles, overwrite=force)
    guessed = "taken for" if known is None else "told to be"
    said = f"score {found.score:.2f}, distortion {guessed} {found.distortion}"
    sentence = f"revealed {loaded.capacity} in {out} ({said})"
    if not found.credible:
        sentence = (
            f"nothing credible was found ({said}): no container of these weights, or one that was resized, "
            f"turned or cut; what was revealed is in {out}"
        )
    result = {
        "codec": codec,
        "files": [str(out / f"{name}.png") for name in names],
        "score": round(found.score, 4),
        "credible": found.credible,
        "distortion": str(found.distortion),
        "guessed": known is None,
    }
    emit(result, sentence, as_json)
    return MATCH if found.credible else INCONCLUSIVE


def parse_distortion(text: str | None) -> nn.Module | None:
    """Return the distortion that --distortion names; raises InputError if it names none."""
    if text is None:
        return None
    from modelguard.distortions import Jpeg, Noise, Poisson, Quantise

    kind, _, value = text.partition(":")
    try:
        if kind == "noise":
            return Noise(float(value))
        if kind == "jpeg":
            return Jpeg(int(value))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
    if text in ("none", "poisson"):
        return Quantise() if text == "none" else Poisson()
    raise InputError(
        f"distortion: {text!r} is not known", "write none, noise:10, poisson or jpeg:80, or leave it out"
    )
