"""`modelguard embed`: hide a payload in an image, or in each of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelguard.cli.app import FAILURE, MATCH
from modelguard.cli.many import CODEC_HELP, WORKERS_HELP, Row, each, images_in, load_codec, parse_payload
from modelguard.cli.output import emit
from modelguard.errors import InputError


def embed(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Image file, or folder of them.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File or folder to write; the ending says the format.")
    ],
    text: Annotated[str | None, typer.Option(help="Text to hide, errors corrected.")] = None,
    number: Annotated[
        int | None, typer.Option("--id", min=0, help="Whole number to hide, errors corrected.")
    ] = None,
    bits: Annotated[
        str | None, typer.Option(help="Bare bits to hide, such as 0110...; as many as the codec holds.")
    ] = None,
    codec: Annotated[str, typer.Option(help=CODEC_HELP)] = "dbmark:robust-128",
    strength: Annotated[float, typer.Option(help="Factor on the mark; 2 costs 6 dB.")] = 1.0,
    jpeg: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Quality of JPEG that every bit must survive; marks only as much as it takes.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help=WORKERS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Hide a payload in images so that it survives what usually happens to them.

    Each file is read back before it is written; an image that does not hold the mark is an error, and of a
    folder the others are done. Files of a folder keep their names; those that exist already are an error.
    Exit code 2 if a file could not be marked.
    """
    payload = parse_payload(text, number, bits)
    if payload is None:
        raise InputError("payload: there is nothing to hide", "give --text, --id or --bits")
    images = images_in(source, without=target)  # what an earlier run wrote there
    from modelguard.codecs.dbmark import check_strength
    from modelguard.codecs.files import check_target, embed_file
    from modelguard.distortions import Jpeg

    check_strength(strength)
    if not source.is_dir():
        check_target(target, force=force)
    loaded = load_codec(codec)
    loaded.payload(payload)  # one that does not fit is no fault of the files

    survives = [] if jpeg is None else [Jpeg(jpeg)]

    def work(path: Path) -> Row:
        out = target / path.relative_to(source) if source.is_dir() else target
        embed_file(loaded, path, out, payload, strength=strength, survives=survives, force=force)
        return {"out": str(out)}

    rows = each(images, work, "embedding", workers)
    failed = sum("error" in row for row in rows)
    summary = f"marked {len(rows) - failed} of {len(rows)} images"
    emit({"codec": codec, "files": rows, "failed": failed}, summary, as_json)
    return FAILURE if failed else MATCH
