"""`modelguard locate`: where a container was edited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelguard.cli.app import INCONCLUSIVE, MATCH
from modelguard.cli.hide import PREVIEW_HELP, RIIS_HELP
from modelguard.cli.output import emit
from modelguard.cli.reveal import DISTORTION_HELP, parse_distortion
from modelguard.cli.sheet import check_preview, draw_sheet

if TYPE_CHECKING:
    from modelguard.cli.sheet import Tile


def locate(
    container: Annotated[Path, typer.Argument(metavar="IN", help="Picture that was a container.")],
    secrets: Annotated[
        list[Path], typer.Argument(metavar="SECRET...", help="The pictures it was made to hide, in order.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Mask to write: white where edited.")],
    distortion: Annotated[str | None, typer.Option(help=DISTORTION_HELP)] = None,
    codec: Annotated[str, typer.Option(help=RIIS_HELP)] = "riis:robust-1",
    preview: Annotated[Path | None, typer.Option(help=PREVIEW_HELP)] = None,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Find where a container was edited: there the known secrets are not revealed.

    Exit code 0, or 1 if the picture does not look like a container: then the mask means nothing.
    """
    from PIL import Image

    from modelguard.cli.many import load_riis
    from modelguard.codecs.files import check_target, write_picture
    from modelguard.codecs.pictures import read

    known = parse_distortion(distortion)
    check_target(out, force=force)
    check_preview(preview, out, force=force)
    picture = read(container)
    found = load_riis(codec).locate(picture, [read(secret) for secret in secrets], known)
    mask = Image.fromarray(found.mask)
    write_picture(mask.convert("L"), out, force=force)
    if preview is not None:
        red = Image.composite(Image.new("RGB", picture.size, (255, 0, 0)), picture, mask)
        overlay = Image.blend(picture, red, 0.5)
        tiles: list[Tile] = [("picture", "", picture), ("edited", f"{found.share:.1%}", overlay)]
        draw_sheet(preview, tiles, overwrite=force)
    sentence = f"{found.share:.1%} of the picture is edited, see {out} (score {found.score:.2f})"
    if not found.credible:
        sentence = f"nothing credible was found (score {found.score:.2f}): the mask in {out} means little"
    result = {
        "codec": codec,
        "out": str(out),
        "share": round(found.share, 4),
        "score": round(found.score, 4),
        "credible": found.credible,
    }
    emit(result, sentence, as_json)
    return MATCH if found.credible else INCONCLUSIVE
