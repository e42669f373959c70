"""Tables of barriers."""

from __future__ import annotations

from collections.abc import Sequence

from modelguard.benchmarks.rows.words import (
    Result,
    Row,
)


def barrier(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What sessions of ordinary photos show of a barrier, behind channels and where there is none."""
    every = results[0]["results"]["hosts"]
    counts = [one["photos"] for one in every[0]["transport"][0]["read"]]
    header = ("host", "answers", *(f"{n} photo{'s' * (n > 1)}: agreeing, log10 p (matches)" for n in counts))
    return header, [
        (host["host"], name, *_barrier_read(row["read"]))
        for host in every
        for kind, label in (("transport", "channel"), ("innocent", "answers"))
        for row in host[kind]
        for name in (row[label],)
    ]


def barrier_cost(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What a barrier costs the eye and the clock, and fresh keys on an unmarked host."""
    found = results[0]["results"]
    cost, null = found["cost"], found["null"]
    rows: list[Row] = []
    for host in found["hosts"]:
        psnr, ssim = host["psnr"], host["ssim"]
        rows.append((f"{host['host']}: PSNR, mean and least", f"{psnr['mean']:.2f}, {psnr['least']:.2f} dB"))
        rows.append((f"{host['host']}: SSIM, mean and least", f"{ssim['mean']:.4f}, {ssim['least']:.4f}"))
    rows.append((f"time, as a share of {cost['host']}'s", f"{cost['share']:.1%}"))
    rows += [
        (
            f"{null['keys']} fresh keys on an unmarked host: share of p at {name[3:]}",
            f"{cell['share']:.3f} ({cell['low']:.4f} to {cell['high']:.4f})",
        )
        for name, cell in null.items()
        if name.startswith("at_")
    ]
    return ("measure", "figure"), rows


def _barrier_read(read: list[Result]) -> list[str]:
    return [
        f"{one['agree']:.0%}, {one['log10_p_adj_median']:.1f} ({one['matches']} of {one['sessions']})"
        for one in read
    ]


def logo_barrier(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What the paper's barrier shows in its own outputs, in a thief's and in innocent ones."""
    header = (
        "run",
        "images",
        "PSNR, dB",
        "SSIM",
        "photos, dB",
        "NC",
        "NC, empty",
        "NC, wrong",
        "centred",
        "centred, wrong",
        "SR NC",
        "SR centred",
        "SR C",
    )
    rows = []
    for one in results:
        run = one["benchmark"].partition("-")[2]
        for case in one["results"]["cases"]:
            label = f"{case['case']}, logo {case['mark']}" if case["mark"] else case["case"]
            rates = (f"{100 * case[key]:.0f} %" for key in ("sr_nc", "sr_centred", "sr_c"))
            keys = ("nc", "blank_nc", "wrong_nc", "centred_nc", "wrong_centred_nc")
            digits = {"psnr": 2, "ssim": 3, "psnr_to_photo": 2}
            quality = ("" if case[key] is None else f"{case[key]:.{n}f}" for key, n in digits.items())
            rows.append((run, label, *quality, *(f"{case[key]:.3f}" for key in keys), *rates))
    return header, rows
