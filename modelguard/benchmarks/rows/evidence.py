"""Tables of false claims, of evidence and of asking."""

from __future__ import annotations

from collections.abc import Sequence

from modelguard.benchmarks.rows.words import (
    Result,
    Row,
    host_title,
    p_value,
    plain,
)


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
        (row["change"], f"{row['tried']:,}", row["accepted"], row["crashed"], plain(row["refused"]))
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
        rows.append((f"{name}, failing", row["runs"], refusals, recorded, again, plain(row["outcomes"])))
    row = one["killed"]
    lost, again = row["questions_lost"], row["asked_twice"]
    rows.append(("marked, client killed", row["runs"], lost, lost, again, plain(row["outcomes"])))
    return header, rows


def asking(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What asking suspects costs."""
    one = results[0]["results"]
    many, added, memory = one["many"], one["overhead"], one["memory"]
    return ("measure", "figure"), [
        (f"{many['suspects']} stored suspects, a second", many["suspects_per_second"]),
        ("the same, a second of processor time", many["suspects_per_processor_second"]),
        ("verdicts", plain(many["outcomes"])),
        ("added to a query of a function, ms of processor time", added["function_processor_ms_a_query"]),
        ("added to a query of a service, both ends, ms", added["service_processor_ms_a_query"]),
        (
            f"peak memory over {memory['answers']} answers, each thousand, MB",
            plain(memory["peak_megabytes_each_thousand"]),
        ),
    ]


def service(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """A service over HTTP."""
    header = ("host", "model", "answers", "queries", "bits that agree", "log10 p")
    return header, [
        (
            host_title(one["results"]["host"]),
            row["model"],
            f"JPEG {one['results']['jpeg']}",
            row["queries"],
            f"{row['agree']} of {row['bits']}",
            p_value(row),
        )
        for one in results
        for row in one["results"]["asked"]
    ]
