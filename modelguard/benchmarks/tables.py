"""Write the measured tables of README.md and docs/*.md from docs/results/*.json.

A table stands between `<!-- table:NAME -->` and `<!-- /table -->`; one not measured yet is a sentence.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError
from modelguard.statistics import Multiplicity

MARKED = re.compile(r"(<!-- table:(\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)
HOSTS = {
    "dncnn": "DnCNN",
    "red": "RED",
    "vdsr-2": "VDSR x2",
    "vdsr-3": "VDSR x3",
    "vdsr-4": "VDSR x4",
    "kair": "DnCNN, public weights",
    "vdsr-public-2": "VDSR x2, public weights",
    "vdsr-public-3": "VDSR x3, public weights",
    "vdsr-public-4": "VDSR x4, public weights",
}
PROMISED_CHANNELS = ("8 bit", "JPEG 75", "JPEG 50", "resize 0.5", "noise 5")
PROMISED_ATTACKS = re.compile(r"prune 0\.35|int8|fine-tune|overwrite")

Result = dict[str, Any]
Row = Sequence[object]


class Table(NamedTuple):
    """How one table is made: from which files, by which function, and the benchmark that writes them."""

    files: str
    rows: Callable[[list[Result]], tuple[Row, Sequence[Row]]]
    benchmark: str


def hosts(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """PSNR of the hosts before anything is done to them."""
    header = ("host", "parameters", "set", "PSNR, dB", "published, dB", "no model, dB")
    rows = [
        (
            _host(row["host"]),
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
            _host(one["host"]),
            row["set"],
            f"{row['before']:.2f}",
            f"{row['after']:.2f}",
            f"{row['after'] - row['before']:+.3f}",
            f"{one['embed_seconds']:.0f}",
            _p(one["marked"]),
            _p(one["unmarked"]),
        )
        for one in _each(results)
        for row in one["fidelity"]
    ]
    return header, rows


def transport(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The mark behind a channel: one query, a column a host."""
    every = _each(results)
    read = [{row["channel"]: _p(row) for row in one["transport"]} for one in every]
    channels = dict.fromkeys(channel for one in read for channel in one)
    rows = [(channel, *(one.get(channel, "") for one in read)) for channel in channels]
    return ("channel", *(_host(one["host"]) for one in every)), rows


def robustness(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What a thief's work on the weights costs him, and the owner."""
    header = ("host", "attack", "set", "PSNR, dB", "log10 p, one query", "all leaves", "all, stamped key")
    rows: list[Row] = []
    for one in _each(results):
        name = _host(one["host"])
        for first in one["fidelity"][:1]:
            rows.append((name, "none", first["set"], f"{first['after']:.2f}", _p(one["marked"]), "", ""))
        for row in one["attacks"]:
            psnr = f"{row['psnr']:.2f}"
            every = row["all"]
            rows.append((name, row["attack"], row["set"], psnr, _p(row["one"]), _p(every), _stamped(every)))
    return header, rows


def summary(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The figures that were promised, a column a host; runs with a tag are in the other tables."""
    every = [one for one in _each(results) if one["host"] == _known(one["host"])]
    cells: dict[str, dict[str, str]] = {}
    for one in every:
        host = one["host"]

        def put(row: str, value: str, host: str = host) -> None:
            cells.setdefault(row, {})[host] = value

        for row in one["fidelity"]:
            put(f"PSNR on {row['set']} before and after, dB", f"{row['before']:.2f}, {row['after']:.2f}")
        put("embedding, s", f"{one['embed_seconds']:.0f}")
        put("log10 p of the marked model", _p(one["marked"]))
        put("log10 p of the unmarked model", _p(one["unmarked"]))
        for row in one["transport"]:
            if row["channel"] in PROMISED_CHANNELS:
                put(f"log10 p behind {row['channel']}", _p(row))
        for row in one["attacks"]:
            if PROMISED_ATTACKS.match(row["attack"]):
                put(f"log10 p after {row['attack']} (PSNR there)", f"{_p(row['one'])} ({row['psnr']:.2f} dB)")
    names = [one["host"] for one in every]
    rows = [(row, *(cell.get(host, "") for host in names)) for row, cell in cells.items()]
    return ("one query", *map(_host, names)), rows


def false_claims(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How often keys that a suspect never saw are rejected."""
    measured = results[0]["results"]
    levels = [name for name in measured[0] if name.startswith("at_")]
    header = ("suspect", "fresh keys", *(f"share at {name[3:]}" for name in levels), "least log10 p")

    def share(cell: Result) -> str:
        return f"{cell['share']:.4f} ({cell['low']:.4f} to {cell['high']:.4f})"

    rows = [
        (row["suspect"], row["keys"], *(share(row[name]) for name in levels), f"{row['lowest_log10_p']:.1f}")
        for row in measured
    ]
    return header, rows


def tamper(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What became of changed bundles."""
    rows = [
        (row["change"], f"{row['tried']:,}", row["accepted"], row["crashed"], _plain(row["refused"]))
        for row in results[0]["results"]
    ]
    return ("change", "bundles", "accepted", "crashed", "refused with"), rows


def grinding(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The best of many keys, and what is left of it once all are counted."""
    header = ("suspect", "keys tried", "best log10 p", "adjusted", "verdict", "families of 256 below 0.05")
    rows = [
        (
            row["suspect"],
            f"{row['keys']:,}",
            f"{row['best_log10_p']:.2f}",
            f"{row['best_log10_p_adj']:.2f}",
            row["verdict"],
            f"{row['families_below_0.05']} of {row['families']} ({row['low']:.3f} to {row['high']:.3f})",
        )
        for row in results[0]["results"]
    ]
    return header, rows


def check_cost(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Milliseconds of an offline check."""
    rows = [
        (row["bundle"], row.get("bits", ""), row["milliseconds"], row.get("milliseconds_per_leaf", ""))
        for row in results[0]["results"]
    ]
    return ("bundle", "bits", "check, ms", "a leaf, ms"), rows


def startup(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Seconds until a command is ready."""
    rows = [
        (row["command"], f"{row['seconds']:.3f}", f"{row['beyond_bare']:+.3f}", f"{row['ratio']:.1f}")
        for row in results[0]["results"]
    ]
    return ("command", "seconds", "beyond bare", "ratio"), rows


def carriers(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What was tried as carrier and as hardening."""
    every = [(one["benchmark"].partition("-")[2], row) for one in results for row in one["results"]]
    cells = (item for _, row in every for item in row.items())
    reads = list(dict.fromkeys(name for name, cell in cells if isinstance(cell, dict)))
    header = ("host", "variant", "change, dB", *(f"{name}: agreeing, log10 p" for name in reads))

    def read(cell: Result | None) -> str:
        return "" if cell is None else f"{cell['agree']:.0%} of {cell['bits']}, {cell['log10_p']:.1f}"

    rows = [
        (_host(host), row["variant"], f"{row['psnr_change']:+.3f}", *(read(row.get(name)) for name in reads))
        for host, row in every
    ]
    return header, rows


def paper(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The tables of Quan et al.: the printed figure, ours in paper mode, and the keyed mark's."""
    rows = [row for result in results for row in result["results"]]
    rows.sort(key=lambda row: _rank(row["model"]))
    return ("table", "host", "case", "printed", "paper mode", "keyed"), [
        (
            row["table"],
            _host(row["model"]),
            *(_plain(row.get(part)) for part in ("case", "paper", "ours", "keyed")),
        )
        for row in rows
    ]


def speed(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The training loop against a plain one."""
    row, threads = results[0]["results"], results[0]["machine"]["threads"]
    ours, plain = row["loop_images_per_second"], row["plain_fp32_images_per_second"]
    header = ("threads", "our loop, images/s", "plain fp32 loop, images/s", "ratio")
    return header, [(threads, f"{ours:.0f}", f"{plain:.0f}", f"{row['ratio']:.2f}")]


def faults(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Sessions with a failing service, and sessions whose client was killed."""
    one = results[0]["results"]
    header = ("sessions", "number", "refusals", "recorded", "asked again after an answer", "verdicts")
    rows: list[Row] = []
    for name in ("marked", "unmarked"):
        row = one[name]
        refusals, recorded, again = (
            row[field] for field in ("refusals", "refusals_recorded", "asked_after_an_answer")
        )
        rows.append((f"{name}, failing", row["runs"], refusals, recorded, again, _plain(row["outcomes"])))
    row = one["killed"]
    lost, again = row["questions_lost"], row["asked_twice"]
    rows.append(("marked, client killed", row["runs"], lost, lost, again, _plain(row["outcomes"])))
    return header, rows


def asking(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What asking suspects costs."""
    one = results[0]["results"]
    many, added, memory = one["many"], one["overhead"], one["memory"]
    return ("measure", "figure"), [
        (f"{many['suspects']} stored suspects, a second", many["suspects_per_second"]),
        ("the same, a second of processor time", many["suspects_per_processor_second"]),
        ("verdicts", _plain(many["outcomes"])),
        ("added to a query of a function, ms of processor time", added["function_processor_ms_a_query"]),
        ("added to a query of a service, both ends, ms", added["service_processor_ms_a_query"]),
        (
            f"peak memory over {memory['answers']} answers, each thousand, MB",
            _plain(memory["peak_megabytes_each_thousand"]),
        ),
    ]


def parity(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """The mark and the quality in every form a model is shipped in."""
    header = ("host", "form", "log10 p marked", "unmarked", "set", "PSNR marked, dB", "unmarked, dB")
    return header, [
        (
            _host(one["results"]["host"]),
            row["form"],
            _p(row["marked"]),
            _p(row["unmarked"]),
            name,
            f"{psnr:.2f}",
            f"{row['psnr_unmarked'][name]:.2f}",
        )
        for one in results
        for row in one["results"]["forms"]
        for name, psnr in row["psnr_marked"].items()
    ]


def service(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """A service over HTTP."""
    header = ("host", "model", "answers", "queries", "bits that agree", "log10 p")
    return header, [
        (
            _host(one["results"]["host"]),
            row["model"],
            f"JPEG {one['results']['jpeg']}",
            row["queries"],
            f"{row['agree']} of {row['bits']}",
            _p(row),
        )
        for one in results
        for row in one["results"]["asked"]
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


def dbmark(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Quality and bit errors of the image codecs beside the paper's."""
    sets = list(dict.fromkeys(name for one in results for name in one["results"]["sets"]))
    rows: list[Row] = []
    for one in (result["results"] for result in results):
        paper, measured = one["paper"], [one["sets"].get(name) for name in sets]
        for name, title in (("psnr", "PSNR, dB"), ("ssim", "SSIM")):
            figures = [paper.get(name), *(each and each[name] for each in measured)]
            rows.append((one["codec"], title, *map(_plain, figures)))
        for name in next(filter(None, measured))["wrong"]:
            rates = [paper.get(name), *(each and each["wrong"][name] / each["bits"] for each in measured)]
            cells = ("" if rate is None else f"{100 * rate:.4g} %" for rate in rates)
            rows.append((one["codec"], f"wrong bits, {name}", *cells))
    return ("weights", "measure", "paper", *sets), rows


def dbmark_unmarked(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How often the image codecs find a message in images without one, and what averaging tells."""
    header = ("weights", "unmarked squares", "found at level", "smallest log10 p", "averaging leak")
    return header, [
        (
            one["codec"],
            one["unmarked"]["crops"],
            _plain(one["unmarked"]["found_at"]),
            one["unmarked"]["smallest_log10_p"],
            _plain([measured["averaging_leak"] for measured in one["sets"].values()]),
        )
        for one in (result["results"] for result in results)
    ]


def codecs(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Image codecs beside their peers: -log10 p and bit accuracy by attack."""
    rows = results[0]["results"]
    header = ("attack", *(f"{row['codec']} ({row['bits']} bits, {row['psnr']} dB)" for row in rows))
    lines: list[Row] = [
        (attack, *(f"{row['surprise'][attack]:.1f} ({100 * row['accuracy'][attack]:.1f} %)" for row in rows))
        for attack in rows[0]["surprise"]
    ]
    speed = (
        "seconds to embed / extract",
        *(" / ".join(map(_plain, row["seconds"].values())) for row in rows),
    )
    return header, [*lines, speed]


def riis(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """PSNR of containers and of revealed pictures beside the paper's, and of four bits a pixel."""
    header = (
        "weights",
        "set",
        "measure, dB",
        "paper",
        "told",
        "guessed",
        "never rounded",
        "four least bits",
    )
    rows: list[Row] = []
    for one, name, row in _riis_sets(results):
        paper, plain, bits = one["paper"], row["unrounded"], row["least_bits"]
        figures = (paper.get("container"), row["container"], None, plain["container"], bits["container"])
        rows.append((one["codec"], name, "container", *map(_decibels, figures)))
        for case, told in row["secret"].items():
            figures = (paper.get(case), told, row["blind"][case], plain.get(case), bits["secret"][case])
            rows.append((one["codec"], name, f"secret, {case}", *map(_decibels, figures)))
    return header, rows


def riis_curve(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Figure 9: PSNR of revealed pictures by level, told and guessed."""
    cases = list(dict.fromkeys(case for _, _, row in _riis_sets(results) for case in row["curve"]["secret"]))
    return ("weights", "set", "level", *cases), [
        (one["codec"], name, told, *(_decibels(row["curve"][key].get(case)) for case in cases))
        for one, name, row in _riis_sets(results)
        for told, key in (("told", "secret"), ("guessed", "blind"))
    ]


def riis_score(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How often pictures are said to be containers, and what is guessed of their distortion."""
    header = ("weights", "set", "distortion", "containers said to be", "hosts said to be", "mean guess")
    return header, [
        (one["codec"], name, case, f"{guess[-1]:.0%}", f"{row['innocent'][case]:.0%}", _plain(guess[:-1]))
        for one, name, row in _riis_sets(results)
        for case, guess in row["guessed"].items()
    ]


def riis_locating(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How well edits are located by a known secret: intersection over union."""
    header = ("weights", "set", "after", "IoU by edit", "area marked without an edit")
    return header, [
        (one["codec"], name, after, _plain(cells["overlap"]), f"{cells['false_area']:.1%}")
        for one, name, row in _riis_sets(results)
        for after, cells in row["locating"].items()
    ]


def riis_photographing(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How many QR codes are read from revealed secrets, and from those of photos."""
    return ("weights", "set", "QR codes", "read as saved", "read from photos"), [
        (one["codec"], name, *row["photographing"].values()) for one, name, row in _riis_sets(results)
    ]


def riis_colouring(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """PSNR of pictures that look grey, and of the colours that come back."""
    header = ("weights", "set", "looks grey, dB", "colours without it, dB", "colours by what happened, dB")
    return header, [
        (one["codec"], name, *(_plain(cell) for cell in row["colouring"].values()))
        for one, name, row in _riis_sets(results)
    ]


def riis_cost(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Seconds and memory of hiding and revealing."""
    return ("weights", "side, px", "hide, s", "reveal, s", "peak memory, MB"), [
        (one["codec"], *row.values())
        for one in (result["results"] for result in results)
        for row in one.get("cost", [])
    ]


def _riis_sets(results: list[Result]) -> list[tuple[Result, str, Result]]:
    every = [result["results"] for result in results]
    return [(one, name, row) for one in every for name, row in one["sets"].items()]


def _decibels(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


def _barrier_read(read: list[Result]) -> list[str]:
    return [
        f"{one['agree']:.0%}, {one['log10_p_adj_median']:.1f} ({one['matches']} of {one['sessions']})"
        for one in read
    ]


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
            label = f"RISTN, {one['weights']}" if name == "ristn" else HOSTS.get(name, name)
            rows.append((label, *map(_frames, [*found, mean])))
    names = [f"{each['sequence']} ({each['frames']})" for each in results[0]["results"]["sequences"]]
    return ("PSNR / without 8 px / SSIM", *names, "mean"), rows


def _frames(found: Result) -> str:
    return f"{found['psnr']:.2f} / {found['psnr_crop8']:.2f} / {found['ssim']:.3f}"


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
            _plain(found[f"{name}_peak_megabytes"]),
        )
        for one in results
        for found in (one["results"]["cost"],)
        for name in ("fp32", "bf16")
    ]


TABLES = {
    "ristn": Table("ristn*.json", ristn, "ristn"),
    "ristn-cost": Table("ristn*.json", ristn_cost, "ristn"),
    "codecs": Table("codecs.json", codecs, "codecs"),
    "dbmark": Table("dbmark-*.json", dbmark, "dbmark"),
    "dbmark-unmarked": Table("dbmark-*.json", dbmark_unmarked, "dbmark"),
    "riis": Table("riis-*.json", riis, "riis"),
    "riis-curve": Table("riis-*.json", riis_curve, "riis"),
    "riis-score": Table("riis-*.json", riis_score, "riis"),
    "riis-locating": Table("riis-*.json", riis_locating, "riis"),
    "riis-photographing": Table("riis-*.json", riis_photographing, "riis"),
    "riis-colouring": Table("riis-*.json", riis_colouring, "riis"),
    "riis-cost": Table("riis-*.json", riis_cost, "riis"),
    "barrier": Table("barrier.json", barrier, "barrier"),
    "barrier-cost": Table("barrier.json", barrier_cost, "barrier"),
    "hosts": Table("hosts*.json", hosts, "host_quality"),
    "summary": Table("trigger_key-*.json", summary, "trigger_key"),
    "fidelity": Table("trigger_key-*.json", fidelity, "trigger_key"),
    "transport": Table("trigger_key-*.json", transport, "trigger_key"),
    "robustness": Table("trigger_key-*.json", robustness, "trigger_key"),
    "false-claims": Table("false_claims.json", false_claims, "false_claims"),
    "calibration": Table("calibration.json", false_claims, "calibration"),
    "carriers": Table("carriers-*.json", carriers, "carriers"),
    "logo_barrier": Table("logo_barrier-*.json", logo_barrier, "train_logo_barrier"),
    "paper": Table("paper_tables-*.json", paper, "paper_tables"),
    "parity": Table("parity-*.json", parity, "parity"),
    "service": Table("service-*.json", service, "service"),
    "speed": Table("speed.json", speed, "speed"),
    "tamper": Table("tamper.json", tamper, "tamper"),
    "grinding": Table("grinding.json", grinding, "grinding"),
    "check-cost": Table("check_cost.json", check_cost, "check_cost"),
    "startup": Table("startup.json", startup, "startup"),
    "faults": Table("faults.json", faults, "faults"),
    "asking": Table("suspects.json", asking, "suspects"),
}


def render(name: str, folder: Path) -> str:
    """Return table `name` as Markdown with its sources below, or a sentence where there is no result file.

    Args:
        name: a key of `TABLES`.
        folder: of the result files.

    Raises:
        InputError: no such table, or a result file that is none.
    """
    if name not in TABLES:
        raise InputError(f"table: there is no table {name!r}", f"choose from {', '.join(TABLES)}")
    table = TABLES[name]
    files = sorted(folder.glob(table.files), key=lambda file: _rank(file.stem.partition("-")[2]))
    if not files:
        return f"*Not measured yet: `modelguard bench {table.benchmark}` measures it.*\n"
    try:
        results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        header, rows = table.rows(results)
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"results: cannot read {table.files} ({error!r})", "run the benchmark again"
        ) from error
    lines = [header, ["---"] * len(header), *rows]
    text = "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
    sources = [f"`{file.name}` ({one['date']})" for file, one in zip(files, results, strict=True)]
    notes = dict.fromkeys(one["notes"] for one in results if one["notes"])
    return f"{text}\n*From {'; '.join([', '.join(sources), *notes])}.*\n"


def refresh(path: Path, folder: Path) -> str:
    """Return the text of a page with its tables as the result files give them now.

    Raises:
        InputError: a marker without its end, or an unknown table.
    """
    text = path.read_text(encoding="utf-8")
    if text.count("<!-- table:") != len(MARKED.findall(text)):
        raise InputError(f"{path}: a table marker has no <!-- /table -->", "close it")
    return MARKED.sub(lambda found: f"{found[1]}{render(found[2], folder)}{found[3]}", text)


def pages(root: Path) -> Iterable[Path]:
    """Yield the pages that may hold tables."""
    yield root / "README.md"
    yield from sorted((root / "docs").glob("*.md"))


def _each(results: list[Result]) -> list[Result]:
    """Return the measurements by host as the file calls it; runs on one marked model are joined."""
    joined: dict[Any, Result] = {}
    for one in results:
        facts, name = one["results"], one["benchmark"].partition("-")[2]
        same = (_known(name), facts["protect_seconds"]) if "protect_seconds" in facts else name
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


def _known(name: str) -> str:
    """Return the longest name of a host that `name` begins with, or nothing."""
    return max((host for host in HOSTS if name.startswith(host)), key=len, default="")


def _host(name: str) -> str:
    known = _known(name)
    tag = name.removeprefix(known).strip("-_ ")
    return ", ".join(filter(None, (HOSTS.get(known), tag)))


def _rank(name: str) -> tuple[int, str]:
    return [*HOSTS, ""].index(_known(name)), name


def _p(reading: Result) -> str:
    p = f"{reading['log10_p_adj']:.1f}"
    return p if reading["verdict"] == "match" else f"{p}, inconclusive"


def _stamped(reading: Result) -> str:
    """Return what a key salted by a timestamp would give: 24 bits of search are charged, not 60."""
    adjusted = Multiplicity(1, 1, 24).adjust(reading["log10_p"])
    return f"{adjusted:.1f}" if adjusted <= -6 else f"{adjusted:.1f}, inconclusive"


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(
    root: Annotated[Path, typer.Option(help="folder with README.md and docs")] = Path(),
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit 1 if a page is stale")] = False,
) -> None:
    """Bring every page up to date, or say which are not."""
    results = root / "docs" / "results"
    stale = False
    for path in pages(root):
        if (text := refresh(path, results)) == path.read_text(encoding="utf-8"):
            continue
        stale = True
        print(f"{path}: {'stale, run `modelguard bench tables`' if check else 'written'}")
        if not check:
            atomic_write_bytes(path, text.encode(), overwrite=True)
    if check and stale:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
