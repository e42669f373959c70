"""One image file or a folder of them, worked on in parallel; a bad file is reported and the rest done."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelguard.cli.output import note
from modelguard.errors import InputError, ModelGuardError

if TYPE_CHECKING:
    from modelguard.codecs import RIIS, DBMark
    from modelguard.codecs.dbmark import Payload

CODEC_HELP = (
    "`dbmark:NAME` (weights that ship with modelguard: robust-128, jpeg-64, combined-30), or `dbmark:` and "
    "the path of a safetensors file."
)
WORKERS_HELP = "Files worked on at once; by default one a processor core."
Row = dict[str, Any]


def load_codec(name: str) -> DBMark:
    """Return the codec that --codec names."""
    from modelguard.codecs import DBMark

    return DBMark.from_pretrained(_weights(name, "dbmark", "robust-128"))


def load_riis(name: str) -> RIIS:
    """Return the codec of pictures that --codec names."""
    from modelguard.codecs import RIIS

    return RIIS.from_pretrained(_weights(name, "riis", "robust-1"))


def _weights(codec: str, family: str, default: str) -> str:
    """Return which weights of a family --codec names, the default ones without a colon."""
    own, colon, what = codec.partition(":")
    if own != family or (colon and not what):
        raise InputError(
            f"codec: {codec!r} is no {family} codec", f"write {family} or {family}:{default}, say"
        )
    return what or default


def parse_payload(text: str | None, number: int | None, bits: str | None) -> Payload | None:
    """Return what --text, --id or --bits give, None if none of them is there.

    Raises:
        InputError: more than one is, or the bits are not zeros and ones.
    """
    if sum(one is not None for one in (text, number, bits)) > 1:
        raise InputError("payload: --text, --id and --bits are all payloads", "give one of them")
    if bits is None:
        return text if text is not None else number
    if set(bits) - {"0", "1"}:
        raise InputError(f"bits: {bits!r} has other signs than 0 and 1", "write 0110..., one sign a bit")
    return [int(one) for one in bits]


def images_in(given: Path, without: Path | None = None) -> list[Path]:
    """Return the image files a path names: itself, or all below a folder but those below `without`.

    Raises:
        InputError: there is no such file or folder, or no image in it.
    """
    from modelguard.datasets.images import SUFFIXES

    if not given.exists():
        raise InputError(f"IN: there is no {given}", "check the path")
    if not given.is_dir():
        return [given]
    found = sorted(path for path in given.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if without is not None and without.resolve() != given.resolve():
        found = [path for path in found if without.resolve() not in path.resolve().parents]
    if not found:
        raise InputError(f"IN: no image file in {given}", f"endings known: {', '.join(sorted(SUFFIXES))}")
    return found


def each(
    paths: Sequence[Path], work: Callable[[Path], Row], label: str, workers: int | None = None
) -> list[Row]:
    """Return a row for each file, in order: what `work` returns, or the `error` it raised, also noted.

    Args:
        paths: of the files.
        work: called in threads.
        label: of the progress bar, which is shown for more than one file.
        workers: threads.
    """
    import torch
    from rich.console import Console
    from rich.progress import track

    workers = min(workers or os.cpu_count() or 1, len(paths))
    if workers > 1:  # else each file would take all cores
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))

    def one(path: Path) -> Row:
        try:
            return {"file": str(path), **work(path)}
        except (ModelGuardError, OSError, RuntimeError, MemoryError) as error:  # torch's for want of memory
            return {"file": str(path), "error": str(error)}

    with ThreadPoolExecutor(workers) as pool:
        console = Console(stderr=True)
        done = track(
            pool.map(one, paths), label, len(paths), console=console, transient=True, disable=len(paths) < 2
        )
        rows = list(done)
    for row in rows:
        if "error" in row:
            note(f"{row['file']}: {row['error']}")
    return rows
