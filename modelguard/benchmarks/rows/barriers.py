"""Tables of barriers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from modelguard.benchmarks.rows.words import HOSTS, Result, Row
from modelguard.statistics import Multiplicity

PAPER = {
    ("cnet", "l2"): "93% / 100%; 100% / 100%",
    ("res9", "l2"): "100% / 100%; 100% / 100%",
    ("res16", "l2"): "100% / 100%; 100% / 100%",
    ("unet", "l2"): "100% / 100%; 100% / 100%",
    ("unet", "l1"): "100% / 100%; 100% / 100%",
    ("unet", "l1+adversarial"): "100% / 100%; 100% / 100%",
    ("unet", "l2+adversarial"): "100% / 100%; 99% / 100%",
    ("unet", "gradients+adversarial"): "71% / 94%; 100% / 100%",
}
"""SR_NC / SR_C of Zhang et al., Table 2: single images, a fixed logo, at no stated rate of false claims."""


def barrier(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What sessions of ordinary photos show of a barrier, behind channels and where there is none."""
    every = [(one["results"]["carriers"], host) for one in results for host in one["results"]["hosts"]]
    counts = [one["photos"] for one in every[0][1]["transport"][0]["read"]]
    header = ("host", "answers", *(f"{n} photo{'s' * (n > 1)}: agreeing, log10 p (matches)" for n in counts))
    return header, [
        (f"{carriers}: {host['host']}", row[label], *sessions(row["read"]))
        for carriers, host in every
        for kind, label in (("transport", "channel"), ("innocent", "answers"))
        for row in host[kind]
    ]


def barrier_cost(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What a barrier costs the eye and the clock, and fresh keys on an unmarked host."""
    rows: list[Row] = []
    for found in (one["results"] for one in results):
        carriers, cost, null = found["carriers"], found["cost"], found["null"]
        for host in found["hosts"]:
            name, (psnr, ssim) = f"{carriers}: {host['host']}", (host["psnr"], host["ssim"])
            rows.append((f"{name}: PSNR, mean and least", f"{psnr['mean']:.2f}, {psnr['least']:.2f} dB"))
            rows.append((f"{name}: SSIM, mean and least", f"{ssim['mean']:.4f}, {ssim['least']:.4f}"))
        rows.append((f"{carriers}: time, as a share of {cost['host']}'s", f"{cost['share']:.1%}"))
        rows += [
            (
                f"{carriers}: {null['keys']} fresh keys on an unmarked host: share of p at {name[3:]}",
                f"{cell['share']:.3f} ({cell['low']:.4f} to {cell['high']:.4f})",
            )
            for name, cell in null.items()
            if name.startswith("at_")
        ]
    return ("measure", "figure"), rows


def surrogates(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What thieves carry away of a barrier's mark: photos asked are clean, p is raw."""
    every = [(_scheme(one["results"]), cell) for one in results for cell in one["results"]["cells"]]
    counts = sorted({one["photos"] for _, cell in every for one in cell["read"]})
    header = (
        "scheme and host",
        "thief",
        "steps",
        "task, dB",
        "to the host, dB",
        "to its marked answers, dB",
        "kept of the mark",
        "single photos at p = .01",
        "paper, debone; derain",
        *(f"{n} photo{'s' * (n > 1)}: agreeing, log10 p" for n in counts),
        "match",
    )
    rows: list[Row] = []
    for scheme, cell in every:
        reads = {one["photos"]: one for one in cell["read"]}
        row = (
            scheme,
            cell["thief"],
            f"{cell['steps']:,}" if cell["steps"] else "",
            f"{cell['task']:.2f}" if "task" in cell else "",
            *(f"{cell[name]:.2f}" if cell[name] is not None else "" for name in ("to_host", "to_marked")),
            f"{cell['retained']:.2f}",
            f"{cell['success_at_1_percent']:.0%}" if "success_at_1_percent" in cell else "",
            PAPER.get(_kind(cell["thief"]), ""),
            *(
                f"{reads[n]['agree']} of {reads[n]['bits']}, {reads[n]['log10_p']:.1f}" if n in reads else ""
                for n in counts
            ),
            matched(cell["read"][-1]["log10_p"]),
        )
        rows.append(row)
    return header, rows


def references(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What answers show blind, beyond their questions, and beyond the unmarked host's answers; p is raw."""
    header = ("scheme and host", "thief", "photos", "beyond nothing", "the question", "the unmarked answer")
    rows: list[Row] = []
    for one in (one["results"] for one in results):
        for cell in (cell for cell in one["cells"] if "blind_log10_p" in cell):
            last = cell["read"][-1]
            found = (cell["blind_log10_p"], last["log10_p"], cell["informed_log10_p"])
            rows.append((_scheme(one), cell["thief"], str(last["photos"]), *(f"{p:.1f}" for p in found)))
    return header, rows


def _scheme(found: dict[str, Any]) -> str:
    return f"{found['scheme'].partition('(')[0]}, {HOSTS[found['host']]}"


def _kind(thief: str) -> tuple[str, str]:
    """Return network and loss of a thief who varies nothing, as the paper's."""
    network, loss, *others = (*thief.split(", "), *(["l1"] if ", " not in thief else []))
    return ("", "") if others else (network.partition("-")[0], loss)


def matched(log10_p: float) -> str:
    """Return whether a raw p-value is a match once the search for a lucky key is charged."""
    if Multiplicity(1, 1, 60).adjust(log10_p) <= -6:
        return "yes"
    return "with a timestamp" if Multiplicity(1, 1, 24).adjust(log10_p) <= -6 else "no"


def forging(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What anybody can do to a barrier with answers to his own photos."""
    header = ("host", "answers", "to the unmarked host's, dB", "agreeing", "log10 p")
    rows: list[Row] = []
    for host in (host for one in results for host in one["results"]["hosts"]):
        for cell in host["cases"]:
            near = "" if cell["to_host"] is None else f"{cell['to_host']:.2f}"
            agree = f"{cell['agree']} of {cell['bits']}"
            rows.append((host["host"], cell["answers"], near, agree, f"{cell['log10_p_adj']:.1f}"))
        right = ", ".join(f"{part:.0%} from {label}" for label, part in host["signs_right"].items())
        rows.append((host["host"], f"signs fitted rightly: {right}", "", "", ""))
    return header, rows


def spread_spectrum(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What thieves carry of an additive pattern: Table 3 of Zhang et al."""
    header = (
        "answers",
        "steps",
        "photos, dB",
        "to the host, dB",
        "kept of the mark",
        "bits right",
        "NC",
        "SR NC",
        "paper: SR NC",
    )
    paper = {"cnet": "0 %", "res9": "0 %", "res16": "0 %", "unet": "100 %"}
    rows: list[Row] = []
    for cell in (cell for one in results for cell in one["results"]["cells"]):
        near = "" if cell["to_host"] is None else f"{cell['to_host']:.2f}"
        measured = f"{cell['retained']:.2f}", f"{cell['agree']:.1%}", f"{cell['nc']:.3f}"
        steps = f"{cell['steps']:,}" if cell["steps"] else ""
        network, loss = _kind(cell["thief"])
        theirs = paper.get(network, "") if loss == "l2" else ""
        rows.append(
            (
                cell["thief"],
                steps,
                f"{cell['psnr_to_photo']:.2f}",
                near,
                *measured,
                f"{cell['sr_nc']:.0%}",
                theirs,
            )
        )
    return header, rows


def sessions(read: list[Result]) -> list[str]:
    """Return what sessions of some photos show: median agreement, adjusted p, and matches."""
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
        "SR NC before refining",
        "paper: SR NC / SR C, debone; derain",
    )
    rows = []
    for one in results:
        run = one["benchmark"].partition("-")[2]
        for case in _over_logos(one["results"]["cases"]):
            label = f"{case['case']}, {case['logos']} logos" if case["logos"] > 1 else case["case"]
            before = (case["before_refining"] or {}).get("sr_nc")
            rates = (
                "" if rate is None else f"{100 * rate:.0f} %"
                for rate in (*(case[key] for key in ("sr_nc", "sr_centred", "sr_c")), before)
            )
            keys = ("nc", "blank_nc", "wrong_nc", "centred_nc", "wrong_centred_nc")
            digits = {"psnr": 2, "ssim": 3, "psnr_to_photo": 2}
            quality = ("" if case[key] is None else f"{case[key]:.{n}f}" for key, n in digits.items())
            numbers = (f"{case[key]:.3f}" for key in keys)
            rows.append((run, label, *quality, *numbers, *rates, PAPER.get(_kind(case["case"]), "")))
    return header, rows


def _over_logos(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one case for all logos of a pair, with the means of its figures."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        by_name.setdefault(case["case"], []).append(case)
    merged = []
    for several in by_name.values():
        figures = {key: _mean([case[key] for case in several]) for key in several[0] if key != "case"}
        merged.append({**figures, "case": several[0]["case"], "logos": len(several)})
    return merged


def _mean(values: list[Any]) -> Any:
    """Return the mean of numbers, key by key if they are in dictionaries; None if one is missing."""
    if None in values:
        return None
    if isinstance(values[0], dict):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    return fmean(values)
