"""Tables of hosts and of models marked by triggers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from modelguard.benchmarks.rows.words import (
    Result,
    Row,
    host_rank,
    host_title,
    known_host,
    p_value,
    plain,
    stamped_p_value,
)

PROMISED_CHANNELS = ("8 bit", "JPEG 75", "JPEG 50", "resize 0.5", "noise 5")


PROMISED_ATTACKS = re.compile(r"prune 0\.35|int8|fine-tune|overwrite")


def hosts(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """PSNR of the hosts before anything is done to them."""
    header = ("host", "parameters", "set", "PSNR, dB", "published, dB", "no model, dB")
    rows = [
        (
            host_title(row["host"]),
            f"{row['parameters']:,}",
            f"{row['set']} ({row['images']})",
            f"{row['psnr']:.2f}",
            "" if row["published"] is None else f"{row['published']:.2f}",
            f"{row['without_model']:.2f}",
        )
        for one in results
        for row in one["results"]
    ]
    return header, rows


def fidelity(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What the mark costs in quality and time."""
    header = (
        "host",
        "set",
        "before, dB",
        "after, dB",
        "change",
        "embedding, s",
        "log10 p marked",
        "unmarked",
    )
    rows = [
        (
            host_title(one["host"]),
            row["set"],
            f"{row['before']:.2f}",
            f"{row['after']:.2f}",
            f"{row['after'] - row['before']:+.3f}",
            f"{one['embed_seconds']:.0f}",
            p_value(one["marked"]),
            p_value(one["unmarked"]),
        )
        for one in _each(results)
        for row in one["fidelity"]
    ]
    return header, rows


def transport(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The mark behind a channel: one query, a column a host."""
    every = _each(results)
    read = [{row["channel"]: p_value(row) for row in one["transport"]} for one in every]
    channels = dict.fromkeys(channel for one in read for channel in one)
    rows = [(channel, *(one.get(channel, "") for one in read)) for channel in channels]
    return ("channel", *(host_title(one["host"]) for one in every)), rows


def robustness(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What a thief's work on the weights costs him, and the owner."""
    header = ("host", "attack", "set", "PSNR, dB", "log10 p, one query", "all leaves", "all, stamped key")
    rows: list[Row] = []
    for one in _each(results):
        name = host_title(one["host"])
        for first in one["fidelity"][:1]:
            rows.append((name, "none", first["set"], f"{first['after']:.2f}", p_value(one["marked"]), "", ""))
        for row in one["attacks"]:
            psnr = f"{row['psnr']:.2f}"
            every = row["all"]
            rows.append(
                (
                    name,
                    row["attack"],
                    row["set"],
                    psnr,
                    p_value(row["one"]),
                    p_value(every),
                    stamped_p_value(every),
                )
            )
    return header, rows


def summary(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The figures that were promised, a column a host; runs with a tag are in the other tables."""
    every = [one for one in _each(results) if one["host"] == known_host(one["host"])]
    cells: dict[str, dict[str, str]] = {}
    for one in every:
        host = one["host"]

        def put(row: str, value: str, host: str = host) -> None:
            cells.setdefault(row, {})[host] = value

        for row in one["fidelity"]:
            put(f"PSNR on {row['set']} before and after, dB", f"{row['before']:.2f}, {row['after']:.2f}")
        put("embedding, s", f"{one['embed_seconds']:.0f}")
        put("log10 p of the marked model", p_value(one["marked"]))
        put("log10 p of the unmarked model", p_value(one["unmarked"]))
        for row in one["transport"]:
            if row["channel"] in PROMISED_CHANNELS:
                put(f"log10 p behind {row['channel']}", p_value(row))
        for row in one["attacks"]:
            if PROMISED_ATTACKS.match(row["attack"]):
                put(
                    f"log10 p after {row['attack']} (PSNR there)",
                    f"{p_value(row['one'])} ({row['psnr']:.2f} dB)",
                )
    names = [one["host"] for one in every]
    rows = [(row, *(cell.get(host, "") for host in names)) for row, cell in cells.items()]
    return ("one query", *map(host_title, names)), rows


def carriers(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What was tried as carrier and as hardening."""
    every = [(one["benchmark"].partition("-")[2], row) for one in results for row in one["results"]]
    cells = (item for _, row in every for item in row.items())
    reads = list(dict.fromkeys(name for name, cell in cells if isinstance(cell, dict)))
    header = ("host", "variant", "change, dB", *(f"{name}: agreeing, log10 p" for name in reads))

    def read(cell: Result | None) -> str:
        return "" if cell is None else f"{cell['agree']:.0%} of {cell['bits']}, {cell['log10_p']:.1f}"

    rows = [
        (
            host_title(host),
            row["variant"],
            f"{row['psnr_change']:+.3f}",
            *(read(row.get(name)) for name in reads),
        )
        for host, row in every
    ]
    return header, rows


def paper(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The tables of Quan et al.: the printed figure, ours in paper mode, and the keyed mark's."""
    rows = [row for result in results for row in result["results"]]
    rows.sort(key=lambda row: host_rank(row["model"]))
    return ("table", "host", "case", "printed", "paper mode", "keyed"), [
        (
            row["table"],
            host_title(row["model"]),
            *(plain(row.get(part)) for part in ("case", "paper", "ours", "keyed")),
        )
        for row in rows
    ]


def speed(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The training loop against a plain one."""
    row, threads = results[0]["results"], results[0]["machine"]["threads"]
    ours, plain = row["loop_images_per_second"], row["plain_fp32_images_per_second"]
    header = ("threads", "our loop, images/s", "plain fp32 loop, images/s", "ratio")
    return header, [(threads, f"{ours:.0f}", f"{plain:.0f}", f"{row['ratio']:.2f}")]


def parity(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The mark and the quality in every form a model is shipped in."""
    header = ("host", "form", "log10 p marked", "unmarked", "set", "PSNR marked, dB", "unmarked, dB")
    return header, [
        (
            host_title(one["results"]["host"]),
            row["form"],
            p_value(row["marked"]),
            p_value(row["unmarked"]),
            name,
            f"{psnr:.2f}",
            f"{row['psnr_unmarked'][name]:.2f}",
        )
        for one in results
        for row in one["results"]["forms"]
        for name, psnr in row["psnr_marked"].items()
    ]


def _each(results: list[Result]) -> list[Result]:
    """Return the measurements by host as the file calls it; runs on one marked model are joined."""
    joined: dict[Any, Result] = {}
    for one in results:
        facts, name = one["results"], one["benchmark"].partition("-")[2]
        same = (known_host(name), facts["protect_seconds"]) if "protect_seconds" in facts else name
        if same not in joined:
            joined[same] = {**facts, "host": name}
            continue
        first = joined[same]
        first["host"] = _shared(first["host"], name)
        for part in ("fidelity", "attacks"):
            first[part] = [*first[part], *facts[part]]
    return list(joined.values())


def _shared(one: str, other: str) -> str:
    """Return the words that both names begin with."""
    pairs = zip(one.split("-"), other.split("-"), strict=False)
    words = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
    return "-".join(word for word, _ in words)
