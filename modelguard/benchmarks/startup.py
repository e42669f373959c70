"""What starting costs: `import modelguard` and `modelguard --help` beside the bare interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from modelguard.benchmarks import record

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import modelguard": ["-c", "import modelguard"],
    "modelguard --help": ["-m", "modelguard", "--help"],
    "modelguard check (imports)": ["-c", "import modelguard.checking"],
}


def main(
    rounds: Annotated[int, typer.Option(help="how often the commands take turns")] = 21,
    out: record.Out = Path("docs/results"),
) -> None:
    """Time the commands in turn and report the median of each."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):  # the first round fills the caches
        for name, words in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            taken[name].append(time.perf_counter() - began)
    middle = {name: median(times[1:]) for name, times in taken.items()}
    bare = middle["python -c pass"]
    rows = [
        {
            "command": name,
            "seconds": round(value, 3),
            "beyond_bare": round(value - bare, 3),
            "ratio": round(value / bare, 1),
        }
        for name, value in middle.items()
    ]
    record.write("startup", out, rows, seed=0, notes="median of a process each")


if __name__ == "__main__":
    typer.run(main)
