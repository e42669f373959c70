"""`modelguard extract`: read what is hidden in images, and say how surprising it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelguard.cli.app import FAILURE, INCONCLUSIVE, MATCH
from modelguard.cli.many import CODEC_HELP, WORKERS_HELP, Row, each, images_in, load_codec, parse_payload
from modelguard.cli.output import emit, table
from modelguard.errors import InputError

if TYPE_CHECKING:
    from modelguard.codecs import Bits


def extract(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Image file, or folder of them.")],
    text: Annotated[str | None, typer.Option(help="Ask whether this text is there.")] = None,
    number: Annotated[int | None, typer.Option("--id", min=0, help="Ask whether this id is there.")] = None,
    bits: Annotated[str | None, typer.Option(help="Ask whether these bits are there.")] = None,
    codec: Annotated[str, typer.Option(help=CODEC_HELP)] = "dbmark:robust-128",
    alpha: Annotated[float, typer.Option(help="Rate of false finds in images without a mark.")] = 1e-6,
    workers: Annotated[int | None, typer.Option(min=1, help=WORKERS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Read ids and texts from images, or test for one payload.

    A payload is found if an image without it would look so with a chance of at most --alpha. Bare bits can
    only be tested for, and must have been drawn at random, without a look at the image. Exit codes: 0 found
    in an image, 1 in none, 2 if a file could not be read.
    """
    wanted = parse_payload(text, number, bits)
    images = images_in(source)
    loaded = load_codec(codec)
    spare = loaded.bits - (loaded.code.data_bits if wanted is None else 0)
    if not 2.0**-spare <= alpha < 1:
        raise InputError(
            f"alpha: {alpha} cannot be reached, {codec} goes down to {2.0**-spare:.1e}",
            "raise alpha, ask for one payload, or use a codec of more bits",
        )
    expected = None if wanted is None else loaded.payload(wanted)

    def work(path: Path) -> Row:
        read = loaded.extract(path)
        if expected is None:
            return _message(read, alpha)
        test = read.test(expected)
        return {"found": test.p <= alpha, "log10_p": test.log10_p, "errors": test.bits - test.matches}

    rows = each(images, work, "extracting", workers)
    found, failed = (sum(bool(row.get(name)) for row in rows) for name in ("found", "error"))
    result = {"codec": codec, "alpha": alpha, "found": found, "failed": failed, "files": rows}
    if len(rows) == 1 and not failed:
        emit(result, _sentence(rows[0], wanted is not None), as_json)
    else:
        shown = [row for row in rows if "error" not in row]
        cells = [(row["file"], f"{row['log10_p']:.1f}", _payload(row)) for row in shown]
        title = f"found in {found} of {len(shown)} images, at {alpha:g} each"
        emit(result, table(title, ("file", "log10 p", "payload"), cells), as_json)
    if failed:
        return FAILURE
    return MATCH if found else INCONCLUSIVE


def _message(read: Bits, alpha: float) -> Row:
    bits = "".join(map(str, read.hard.tolist()))
    message = read.message()
    if message is None:
        return {"found": False, "log10_p": 0.0, "bits": bits}
    found = message.log10_p <= math.log10(alpha)
    row: Row = {"found": found, "log10_p": message.log10_p, "bits": bits}
    return {**row, "id": message.id, "text": message.text, "errors": message.errors} if found else row


def _payload(row: Row) -> str:
    if not row["found"]:
        return "nothing found"
    if "id" not in row:
        return "the payload asked for"
    return f"id {row['id']}" + (f", text {row['text']!r}" if row["text"] else "")


def _sentence(row: Row, asked: bool) -> str:
    if row["found"]:
        chance = f"chance without a mark 10^{row['log10_p']:.1f}"
        return f"found {_payload(row)} ({row['errors']} of its bits read wrongly; {chance})"
    what = "the payload asked for is not in this image" if asked else "no mark found in this image"
    return f"{what}, or too little of it is left"
