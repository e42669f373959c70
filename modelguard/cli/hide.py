"""`modelguard hide`: hide pictures in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelguard.cli.app import MATCH
from modelguard.cli.output import emit
from modelguard.cli.sheet import check_preview, draw_sheet

if TYPE_CHECKING:
    from modelguard.cli.sheet import Tile

PREVIEW_HELP = "Draw the pictures side by side here (PNG)."
RIIS_HELP = (
    "`riis:NAME` (weights that ship with modelguard: robust-1, or for PNG only clean-1 and, with up to five "
    "secrets, clean-5), or `riis:` and the path of a safetensors file."
)


def hide(
    host: Annotated[Path, typer.Argument(metavar="HOST", help="RGB picture that is to look unchanged.")],
    secrets: Annotated[
        list[Path],
        typer.Argument(metavar="SECRET...", help="Pictures to hide, as many as the weights carry."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Container to write; the ending says the format.")],
    codec: Annotated[str, typer.Option(help=RIIS_HELP)] = "riis:robust-1",
    preview: Annotated[Path | None, typer.Option(help=PREVIEW_HELP)] = None,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Hide pictures in a picture so that they can be revealed after noise or JPEG.

    Secrets are resized to the host. The written file is revealed at once, as a check: the answer says how
    near the container is to the host and each revealed secret to what was hidden.
    """
    from modelguard.cli.many import load_riis
    from modelguard.codecs.files import check_target, hide_file
    from modelguard.codecs.pictures import read

    check_target(out, force=force)
    check_preview(preview, out, force=force)
    hidden = hide_file(load_riis(codec), host, secrets, out, force=force)
    if preview is not None:
        tiles: list[Tile] = [("host", "", read(host))]
        tiles.append(("container", f"{hidden.container_psnr:.1f} dB", read(out)))
        for number, (secret, psnr) in enumerate(zip(hidden.revealed, hidden.secret_psnr, strict=True), 1):
            tiles.append((f"revealed {number}", f"{psnr:.1f} dB", secret))
        draw_sheet(preview, tiles, overwrite=force)
    result = {
        "out": str(out),
        "container_psnr": round(hidden.container_psnr, 2),
        "secret_psnr": [round(one, 2) for one in hidden.secret_psnr],
        "score": round(hidden.score, 4),
    }
    secrets_said = ", ".join(f"{one:.1f}" for one in hidden.secret_psnr)
    emit(
        {"codec": codec, **result},
        f"{out}: {hidden.container_psnr:.1f} dB to the host; revealed again: {secrets_said} dB",
        as_json,
    )
    return MATCH
