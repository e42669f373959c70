"""Pictures side by side with a title and a remark each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    Tile = tuple[str, str, Image.Image]

SIDE, GAP, CAPTION = 256, 14, 46
INK, PAPER = (30, 30, 30), (255, 255, 255)


def check_preview(preview: Path | None, *others: Path, force: bool) -> None:
    """Raise InputError if no sheet can be written to `preview` beside `others`, before any work is done."""
    if preview is None:
        return
    from modelguard.codecs.files import check_target

    if preview.suffix.lower() != ".png" or preview.resolve() in [one.resolve() for one in others]:
        raise InputError(f"preview: {preview} is no PNG file of its own", "name another, such as preview.png")
    check_target(preview, force=force, name="preview")


def draw_sheet(
    path: Path, tiles: Sequence[Tile], columns: int | None = None, *, overwrite: bool = False
) -> None:
    """Draw tiles of (title, remark, picture) in rows, each fitted to a square.

    Args:
        path: of the PNG.
        tiles: small pictures are enlarged without smoothing.
        columns: of a row; by default all in one.
        overwrite: replace an existing file.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = columns or len(tiles)
    rows = -(-len(tiles) // columns)
    width, height = columns * (SIDE + GAP) + GAP, rows * (SIDE + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(17), ImageFont.load_default(14)
    for number, (title, remark, picture) in enumerate(tiles):
        left = GAP + number % columns * (SIDE + GAP)
        top = GAP + number // columns * (SIDE + CAPTION + GAP)
        pen.text((left, top), title, INK, large)
        pen.text((left, top + 22), remark, INK, small)
        scale = SIDE / max(picture.size)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
        sheet.paste(picture.convert("RGB").resize(size, how), (left, top + CAPTION))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    atomic_write_bytes(path, buffer.getvalue(), overwrite=overwrite)
