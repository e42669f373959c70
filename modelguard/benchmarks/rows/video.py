"""Tables of video super-resolution."""

from __future__ import annotations

from collections.abc import Sequence

from modelguard.benchmarks.rows.barriers import sessions
from modelguard.benchmarks.rows.evidence import false_claims
from modelguard.benchmarks.rows.words import HOSTS, Result, Row, p_value, plain


def ristn(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Video super-resolution by sequence: luma PSNR in dB of whole frames and without a border, and SSIM."""
    rows: list[Row] = []
    for one in (result["results"] for result in results):
        sequences = one["sequences"]
        cells = {name: [each["quality"][name] for each in sequences] for name in sequences[0]["quality"]}
        if all(each["published"] for each in sequences):
            cells["published frames"] = [each["published"] for each in sequences]
        for name, found in cells.items():
            mean = {key: sum(each[key] for each in found) / len(found) for key in found[0]}
            ours = f"RISTN, {one['weights'].removeprefix('ristn-')}"
            label = (
                {"ristn": ours}.get(name) or HOSTS.get(name) or name.replace("windows", f"{ours}, windows")
            )
            row = (label, *map(_frames, [*found, mean]))
            rows += [row] if row not in rows else []  # what is compared with stands in every result
    names = [f"{each['sequence']} ({each['frames']})" for each in results[0]["results"]["sequences"]]
    return ("PSNR / without 8 px / SSIM", *names, "mean"), rows


def ristn_cost(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What a new frame of a stream costs, in seconds and memory."""
    header = ("weights", "parameters", "frame", "threads", "precision", "seconds", "processor s", "peak, MB")
    return header, [
        (
            one["results"]["weights"],
            f"{one['results']['parameters']:,}",
            found["size"],
            one["machine"]["threads"],
            name if name == "fp32" else f"bf16, {found['bf16_ratio']:.2f} times as fast",
            *(found[f"{name}_{key}"] for key in ("seconds", "processor_seconds")),
            plain(found[f"{name}_peak_megabytes"]),
        )
        for one in results
        for found in (one["results"]["cost"],)
        for name in ("fp32", "bf16")
    ]


def clips(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """A marked model of clips: what its mark costs, and what transport and theft leave of it."""
    one = results[0]["results"]
    psnr, marked = one["psnr"], one["transport"][0]
    told = [("unmarked", psnr["before"], None), ("marked", psnr["after"], marked)]
    told += [(row["attack"], row["psnr"], row) for row in one["attacks"]]
    told += [(f"answer: {row['channel']}", None, row) for row in one["transport"][1:]]
    told += [(f"answer: {row['case']}", None, row) for row in one["returned"]]
    rows = [
        (
            name,
            "" if quality is None else f"{quality:.2f}",
            f"{row['agree']} of {row['bits']}" if row else "",
            p_value(row) if row else "",
        )
        for name, quality, row in told
    ]
    return ("model or channel", "Vid4, dB", "bits that agree, one clip", "log10 p"), rows


def clips_innocents(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How often models of clips that never saw a key are rejected."""
    return false_claims([{"results": result["results"]["innocents"]} for result in results])


def clip_barrier(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """A barrier on every frame: what it costs by sequence, and how it changes from frame to frame."""
    header = (
        "sequence",
        "dB before / after",
        "marked to unmarked, dB",
        "mark",
        "its change",
        "frames' change",
    )
    rows = [
        (
            each["sequence"],
            f"{each['psnr']:.2f} / {each['psnr_marked']:.2f}",
            f"{each['to_unmarked']:.1f}",
            *(f"{each[name]:.2f}" for name in ("mark", "mark_changes", "frames_change")),
        )
        for each in results[0]["results"]["sequences"]
    ]
    return header, rows


def clip_barrier_read(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How stills, asked as clips, read a barrier."""
    read = results[0]["results"]["read"]
    counts = [one["photos"] for one in read[0]["read"]]
    header = ("answers", *(f"{n} still{'s' * (n > 1)}: agreeing, log10 p (matches)" for n in counts))
    return header, [(row["channel"], *sessions(row["read"])) for row in read]


def _frames(found: Result) -> str:
    return f"{found['psnr']:.2f} / {found['psnr_crop8']:.2f} / {found['ssim']:.3f}"
