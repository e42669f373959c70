"""Tables of the image codecs."""

from __future__ import annotations

from collections.abc import Sequence

from modelguard.benchmarks.rows.words import (
    Result,
    Row,
    plain,
)


def dbmark(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Quality and bit errors of the image codecs beside the paper's."""
    sets = [*dict.fromkeys(name for one in results for name in one["results"]["sets"])]
    rows: list[Row] = []
    for one in (result["results"] for result in results):
        paper, measured = one["paper"], [one["sets"].get(name) for name in sets]
        for name, title in (("psnr", "PSNR, dB"), ("ssim", "SSIM")):
            figures = [paper.get(name), *(each and each[name] for each in measured)]
            rows.append((one["codec"], title, *map(plain, figures)))
        for name, pooled in one["wrong"].items():
            rates = [paper.get(name), *(each and each["wrong"][name] / each["bits"] for each in measured)]
            cells = ["" if rate is None else f"{100 * rate:.4g} %" for rate in rates]
            together = f"{pooled} of {one['bits']:,}, at most {100 * one['upper'][name]:.2g} %"
            rows.append((one["codec"], f"wrong bits, {name}", *cells, together))
    return ("weights", "measure", "paper", *sets, "together, with a bound of 97.5 %"), rows


def dbmark_unmarked(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How often the image codecs find a message in images without one, and what averaging tells."""
    header = (
        "weights",
        "unmarked squares",
        "a message at level",
        "smallest log10 p",
        "random bits at level",
        "averaging leak",
    )
    return header, [
        (
            one["codec"],
            one["unmarked"]["crops"],
            plain(one["unmarked"]["found_at"]),
            one["unmarked"]["smallest_log10_p"],
            plain(one["unmarked"]["bits_found_at"]),
            one["averaging_leak"],
        )
        for one in (result["results"] for result in results)
    ]


def dbmark_fitted(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Quality and bit errors at a fixed strength and at strengths fitted to what embedding tries."""
    rows: list[Row] = []
    for one in (result["results"] for result in results):
        paper, kinds = one["paper"], [one["fixed"], one["fitted"]]
        marks = [f"{kind['marks']}, {kind['refused']} refused" for kind in kinds]
        rows.append((one["codec"], "marks", "", *marks))
        for name, title in (("psnr", "PSNR, dB"), ("least_psnr", "least PSNR, dB"), ("ssim", "SSIM")):
            rows.append(
                (one["codec"], title, *map(plain, (paper.get(name), *(kind[name] for kind in kinds))))
            )
        for name in kinds[0]["wrong"]:
            said = f"{100 * paper[name]:.4g} %" if name in paper else ""
            cells = [
                f"{100 * kind['wrong'][name] / kind['bits']:.4g} %, at most {100 * kind['upper'][name]:.2g} %"
                for kind in kinds
            ]
            tried = " (tried)" if name in one["tried"] else ""
            rows.append((one["codec"], f"wrong bits, {name}{tried}", said, *cells))
    return ("weights", "measure", "paper", "fixed strength", "fitted strength"), rows


def dbmark_folders(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What marking a folder takes."""
    return ("weights", "images of a folder", "seconds", "peak memory, MB"), [
        (one["codec"], *row.values())
        for one in (result["results"] for result in results)
        for row in one["folders"]
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
        "seconds to embed / extract 512 x 512 px",
        *(" / ".join(map(plain, row["seconds"].values())) for row in rows),
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
        (one["codec"], name, case, f"{guess[-1]:.0%}", f"{row['innocent'][case]:.0%}", plain(guess[:-1]))
        for one, name, row in _riis_sets(results)
        for case, guess in row["guessed"].items()
    ]


def riis_locating(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """How well edits are located by a known secret: intersection over union."""
    header = ("weights", "set", "after", "IoU by edit", "area marked without an edit")
    return header, [
        (one["codec"], name, after, plain(cells["overlap"]), f"{cells['false_area']:.1%}")
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
        (one["codec"], name, *(plain(cell) for cell in row["colouring"].values()))
        for one, name, row in _riis_sets(results)
    ]


def riis_cost(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """Seconds and memory of hiding and revealing."""
    return ("weights", "side, px", "hide, s", "reveal, s", "peak memory, MB"), [
        (one["codec"], *row.values())
        for one in (result["results"] for result in results)
        for row in one.get("cost", [])
    ]


def riis_seams(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """What tiles change in a container beside the net on the whole picture."""
    return ("weights", "set", "tile, px", "overlap, px", "mean change, grey levels", "largest"), [
        (one["codec"], name, *row["seams"].values()) for one, name, row in _riis_sets(results)
    ]


def riis_variants(results: list[Result]) -> tuple[Row, Sequence[Row]]:
    """PSNR of containers and revealed secrets of nets that differ in one thing; lines of one budget each."""
    cases = list(
        dict.fromkeys(
            case for one in results for row in one["results"]["variants"].values() for case in row["secret"]
        )
    )
    return ("net", "steps", "container, dB", *(f"secret, {case}" for case in cases)), [
        (name, one["steps"], _decibels(row["container"]), *(_decibels(row["secret"].get(c)) for c in cases))
        for one in (result["results"] for result in results)
        for name, row in one["variants"].items()
    ]


def _riis_sets(results: list[Result]) -> list[tuple[Result, str, Result]]:
    every = [result["results"] for result in results]
    return [(one, name, row) for one in every for name, row in one["sets"].items()]


def _decibels(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"
