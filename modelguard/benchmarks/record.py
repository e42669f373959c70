"""Results as data: one JSON file a benchmark, with what is needed to run it again."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from modelguard import __version__
from modelguard._files import atomic_write_bytes

Out = Annotated[Path, typer.Option(help="folder of the JSON result")]


def write(name: str, out: Path, rows: Any, *, seed: int, notes: str = "") -> Path:
    """Write `rows` to `out`/`name`.json beside the command, seed, versions and machine.

    Args:
        name: of the benchmark.
        out: folder, such as docs/results.
        rows: JSON-able measurements.
        seed: that the run was started with.
        notes: what a reader must know to read the figures.
    """
    content = {
        "benchmark": name,
        "command": command(sys.argv),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": seed,
        "versions": {
            "modelguard": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "machine": {
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.is_available(),
        },
        "notes": notes,
        "results": rows,
    }
    text = json.dumps(content, indent=1) + "\n"
    return atomic_write_bytes(out / f"{name}.json", text.encode(), overwrite=True)


def command(argv: Sequence[str]) -> str:
    """Return how to run a benchmark again: absolute folders by their last name, which is another elsewhere.

    Args:
        argv: of `modelguard bench NAME ...`, or of `python -m modelguard.benchmarks.NAME ...`.
    """
    program, *given = argv
    name, *options = given[1:] if given[:1] == ["bench"] else [Path(program).stem, *given]
    return shlex.join(["modelguard", "bench", name, *map(_local, options)])


def _local(option: str) -> str:
    flag, equals, value = option.rpartition("=")
    return f"{flag}{equals}{Path(value).name if Path(value).is_absolute() else value}"
