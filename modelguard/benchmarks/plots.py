"""Draw the figures of the docs from docs/results and the cards of shipped weights, as SVG files.

What is not measured yet is not drawn. Needs `pip install modelguard-sdk[plots]`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modelguard import weights
from modelguard._files import atomic_write_bytes
from modelguard.benchmarks.rows.words import Result
from modelguard.errors import InputError


def codecs(figure: Any, results: Sequence[Result]) -> None:
    """Image codecs side by side: -log10 p of the payload by attack."""
    rows, axes = results[0]["results"], figure.subplots()
    attacks = list(rows[0]["surprise"])
    for number, row in enumerate(rows):
        height = 0.8 / len(rows)
        places = [place + (number - (len(rows) - 1) / 2) * height for place in range(len(attacks))]
        axes.barh(places, [row["surprise"][one] for one in attacks], height, label=row["codec"])
    axes.set_yticks(range(len(attacks)), attacks)
    axes.invert_yaxis()
    axes.set_xlabel(f"-log10 p, {results[0]['notes']}")
    axes.axvline(6, color="black", linewidth=0.6, linestyle="dotted")
    axes.legend(fontsize="small")


def unmarked(figure: Any, results: Sequence[Result]) -> None:
    """How often unmarked images seem to hold a message, or given bits; on or below the line is sound."""
    axes = figure.subplots()
    for one in (result["results"] for result in results):
        crops = one["unmarked"]["crops"]
        for name, what in (("found_at", "any message"), ("bits_found_at", "random bits")):
            counts = one["unmarked"][name].items()
            found = {float(level): count / crops for level, count in counts if count}
            label = f"{one['codec']}, {what}, {crops:,} squares"
            axes.loglog(list(found), list(found.values()), "o-", label=label)
    axes.loglog([1e-6, 1], [1e-6, 1], color="black", linewidth=0.6, linestyle="dotted")
    axes.set_xlabel("level")
    axes.set_ylabel("share of unmarked squares")
    axes.legend(fontsize="small")


def learning(figure: Any, cards: Sequence[Result]) -> None:
    """PSNR and wrong bits of the image codecs on held-out images in the course of training."""
    panels = figure.subplots(2, len(cards), sharex="col", squeeze=False)
    for (above, below), card in zip(zip(*panels, strict=True), cards, strict=True):
        steps = [row["step"] for row in card["curve"]]
        above.plot(steps, [row["psnr"] for row in card["curve"]])
        above.set_title(card["name"])
        above.set_ylabel("PSNR, dB")
        for name in card["curve"][0]:
            if name not in ("step", "psnr"):
                below.plot(steps, [100 * row[name] for row in card["curve"]], label=name)
        below.set_yscale("symlog", linthresh=0.1)
        below.set_ylabel("wrong bits, %")
        below.set_xlabel("step")
        below.legend(fontsize="x-small")


def hiding(figure: Any, cards: Sequence[Result]) -> None:
    """PSNR of containers and of revealed pictures on held-out images in the course of training."""
    panels = figure.subplots(1, len(cards), sharey=True, squeeze=False)[0]
    for axes, card in zip(panels, cards, strict=True):
        steps = [row["step"] for row in card["curve"]]
        axes.plot(steps, [row["container"] for row in card["curve"]], "--", label="container")
        for case in ("clean", "sigma 10", "JPEG 80"):
            axes.plot(steps, [row["secret"][case] for row in card["curve"]], label=f"secret, {case}")
        axes.set_title(card["name"])
        axes.set_xlabel("step")
    panels[0].set_ylabel("PSNR, dB")
    panels[0].legend(fontsize="x-small")


def levels(figure: Any, results: Sequence[Result]) -> None:
    """Figure 9 of the RIIS paper: PSNR of revealed pictures by noise level and by JPEG quality."""
    panels = figure.subplots(1, 2, sharey=True)
    for kind, axes in zip(("sigma", "JPEG"), panels, strict=True):
        for one in (result["results"] for result in results):
            for name, row in one["sets"].items():
                for key, label, style in (("secret", "told", "o-"), ("blind", "guessed", "x--")):
                    curve = row["curve"][key]
                    at = {
                        int(case.split()[1]): value for case, value in curve.items() if case.startswith(kind)
                    }
                    axes.plot(list(at), list(at.values()), style, label=f"{one['codec']}, {name}, {label}")
        axes.set_xlabel({"sigma": "sigma of the noise, grey levels", "JPEG": "JPEG quality"}[kind])
    panels[0].set_ylabel("PSNR of the secret, dB")
    panels[1].legend(fontsize="x-small")


def video(figure: Any, results: Sequence[Result]) -> None:
    """RISTN in the course of training: PSNR on clips made from photos, beside bicubic up-scaling."""
    axes = figure.subplots()
    for one in (result["results"] for result in results):
        steps = [row["step"] for row in one["learning"]]
        for name, style in (("psnr", "-"), ("bicubic", ":")):
            label = f"RISTN, {one['weights']}" if name == "psnr" else name
            axes.plot(steps, [row[name] for row in one["learning"]], style, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("PSNR, dB")
    axes.legend(fontsize="small")


FIGURES: dict[str, tuple[str, Callable[[Any, Sequence[Result]], None]]] = {
    "codecs": ("docs/results/codecs.json", codecs),
    "dbmark-unmarked": ("docs/results/dbmark-*.json", unmarked),
    "riis-levels": ("docs/results/riis-*.json", levels),
    "riis-learning": ("riis-*", hiding),
    "ristn-learning": ("docs/results/ristn*.json", video),
    "dbmark-learning": ("dbmark-*", learning),
}
"""By name: the result files, or the weights whose cards are read, and what draws them."""


def svg(draw: Callable[[Any, Sequence[Result]], None], sources: Sequence[Result]) -> bytes:
    """Return a figure as an SVG file, the same for the same sources.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "plots: matplotlib is not installed", "pip install 'modelguard-sdk[plots]'"
        ) from error
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "modelguard", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        draw(figure, sources)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return b"\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + b"\n"


def main(root: Annotated[Path, typer.Option(help="folder with docs")] = Path()) -> None:
    """Draw every figure there are results for, into docs/figures."""
    for name, (pattern, draw) in FIGURES.items():
        found = root.glob(pattern) if "/" in pattern else weights.FOLDER.glob(f"{pattern}.json")
        sources = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(found)]
        if not sources:
            continue
        path = root / "docs" / "figures" / f"{name}.svg"
        atomic_write_bytes(path, svg(draw, sources), overwrite=True)
        print(f"{path}: written")


if __name__ == "__main__":
    typer.run(main)
