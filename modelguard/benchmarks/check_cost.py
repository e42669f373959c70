"""What an offline check costs: a bundle of 256 bits, and how the cost grows with leaves."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

import modelguard
from modelguard.benchmarks import bundles, record
from modelguard.evidence import prf
from modelguard.schemes import keyed_cells

TINY = {"size": 16, "cell": 8, "chip": 2, "per_query": 16, "levels": 1}


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median processor seconds of `rounds` runs after one to warm up."""
    work()
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return median(taken)


def measure(queries: int, committed: int, rounds: int, **scheme: int) -> dict[str, Any]:
    """Make a bundle and return its sizes and the milliseconds of one check."""
    public = keyed_cells.public(channels=1, scale=1, **scheme)
    with tempfile.TemporaryDirectory() as folder:
        made = bundles.make(Path(folder), queries, committed, public)
        checked = modelguard.check(made.path, made.trust)
        taken = seconds(lambda: modelguard.check(made.path, made.trust), rounds)
    leaves = len(checked.leaves)
    return {
        "committed": committed,
        "leaves": leaves,
        "bits": checked.bits,
        "milliseconds": round(1000 * taken, 2),
        "milliseconds_per_leaf": round(1000 * taken / leaves, 3),
    }


def main(
    rounds: Annotated[int, typer.Option(help="timed checks of each bundle; the median counts")] = 15,
    out: record.Out = Path("docs/results"),
) -> None:
    """Time `modelguard.check`, its salt apart."""
    rows: list[dict[str, Any]] = [{"bundle": "four leaves of 64 bits", **measure(1, 16, rounds)}]
    for committed in (1000, 65536):
        name = f"the same, of {committed} committed leaves"
        rows.append({"bundle": name, **measure(1, committed, rounds)})
    for queries in (1, 4, 16, 63):
        name = f"{16 * queries} leaves of 4 bits, equal weights"
        rows.append({"bundle": name, **measure(queries, 1024, rounds, **TINY)})
    salt = seconds(lambda: prf.salt_from_scrypt(b"commitment", 20), 1)
    rows.append({"bundle": "salt without a timestamp, once a check", "milliseconds": round(1000 * salt)})
    notes = "processor time, median; the salt is that of a timestamped key, or costs what the last row says"
    record.write("check_cost", out, rows, seed=0, notes=notes)


if __name__ == "__main__":
    typer.run(main)
