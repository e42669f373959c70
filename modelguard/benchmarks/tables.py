"""Write the measured tables of README.md and docs/*.md from docs/results/*.json.

A table stands between `<!-- table:NAME -->` and `<!-- /table -->`; one not measured yet is a sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from modelguard._files import atomic_write_bytes
from modelguard.benchmarks.rows import barriers, evidence, image_codecs, trigger_key, video
from modelguard.benchmarks.rows.words import Result, Row, host_rank
from modelguard.errors import InputError

MARKED = re.compile(r"(<!-- table:(\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)


class Table(NamedTuple):
    """How one table is made: from which files, by which function, and the benchmark that writes them."""

    files: str
    rows: Callable[[list[Result]], tuple[Row, Sequence[Row]]]
    benchmark: str


TABLES = {
    "ristn": Table("ristn*.json", video.ristn, "ristn"),
    "ristn-cost": Table("ristn*.json", video.ristn_cost, "ristn"),
    "clips": Table("clips.json", video.clips, "clips"),
    "clips-innocents": Table("clips.json", video.clips_innocents, "clips"),
    "clip-barrier": Table("clip_barrier.json", video.clip_barrier, "clip_barrier"),
    "clip-barrier-read": Table("clip_barrier.json", video.clip_barrier_read, "clip_barrier"),
    "codecs": Table("codecs.json", image_codecs.codecs, "codecs"),
    "dbmark": Table("dbmark-*.json", image_codecs.dbmark, "dbmark"),
    "dbmark-fitted": Table("dbmark_fitted-*.json", image_codecs.dbmark_fitted, "dbmark_fitted"),
    "dbmark-unmarked": Table("dbmark-*.json", image_codecs.dbmark_unmarked, "dbmark"),
    "dbmark-folders": Table("dbmark-*.json", image_codecs.dbmark_folders, "dbmark"),
    "riis": Table("riis-*.json", image_codecs.riis, "riis"),
    "riis-curve": Table("riis-*.json", image_codecs.riis_curve, "riis"),
    "riis-score": Table("riis-*.json", image_codecs.riis_score, "riis"),
    "riis-locating": Table("riis-*.json", image_codecs.riis_locating, "riis"),
    "riis-photographing": Table("riis-*.json", image_codecs.riis_photographing, "riis"),
    "riis-colouring": Table("riis-*.json", image_codecs.riis_colouring, "riis"),
    "riis-seams": Table("riis-*.json", image_codecs.riis_seams, "riis"),
    "riis-cost": Table("riis-*.json", image_codecs.riis_cost, "riis"),
    "riis-parts": Table("riis_variants-parts.json", image_codecs.riis_variants, "riis_variants"),
    "riis-levels": Table("riis_variants-levels.json", image_codecs.riis_variants, "riis_variants"),
    "barrier": Table("barrier-*.json", barriers.barrier, "barrier"),
    "barrier-cost": Table("barrier-*.json", barriers.barrier_cost, "barrier"),
    "forging": Table("forging.json", barriers.forging, "forging"),
    "spread-spectrum": Table("spread_spectrum.json", barriers.spread_spectrum, "spread_spectrum"),
    "references": Table("surrogates*.json", barriers.references, "surrogates"),
    "surrogates": Table("surrogates*.json", barriers.surrogates, "surrogates"),
    "hosts": Table("hosts*.json", trigger_key.hosts, "host_quality"),
    "summary": Table("trigger_key-*.json", trigger_key.summary, "trigger_key"),
    "fidelity": Table("trigger_key-*.json", trigger_key.fidelity, "trigger_key"),
    "transport": Table("trigger_key-*.json", trigger_key.transport, "trigger_key"),
    "robustness": Table("trigger_key-*.json", trigger_key.robustness, "trigger_key"),
    "fidelity-earlier": Table("earlier/trigger_key-*.json", trigger_key.fidelity, "trigger_key"),
    "robustness-earlier": Table("earlier/trigger_key-*.json", trigger_key.robustness, "trigger_key"),
    "false-claims": Table("false_claims.json", evidence.false_claims, "false_claims"),
    "calibration": Table("calibration.json", evidence.false_claims, "calibration"),
    "carriers": Table("carriers-*.json", trigger_key.carriers, "carriers"),
    "logo_barrier": Table("logo_barrier-*.json", barriers.logo_barrier, "train_logo_barrier"),
    "paper": Table("paper_tables-*.json", trigger_key.paper, "paper_tables"),
    "parity": Table("parity-*.json", trigger_key.parity, "parity"),
    "service": Table("service-*.json", evidence.service, "service"),
    "speed": Table("speed.json", trigger_key.speed, "speed"),
    "tamper": Table("tamper.json", evidence.tamper, "tamper"),
    "grinding": Table("grinding.json", evidence.grinding, "grinding"),
    "check-cost": Table("check_cost.json", evidence.check_cost, "check_cost"),
    "startup": Table("startup.json", evidence.startup, "startup"),
    "faults": Table("faults.json", evidence.faults, "faults"),
    "asking": Table("suspects.json", evidence.asking, "suspects"),
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
    files = sorted(folder.glob(table.files), key=lambda file: host_rank(file.stem.partition("-")[2]))
    if not files:
        return f"*Not measured yet: `modelguard bench {table.benchmark}` measures it.*\n"
    try:
        results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        header, rows = table.rows(results)
        sources: dict[str, list[str]] = {}
        for file, one in zip(files, results, strict=True):
            if table.rows([one])[1]:  # a file without a row here is no source
                sources.setdefault(one["notes"], []).append(f"`{file.name}` ({one['date']})")
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"results: cannot read {table.files} ({error!r})", "run the benchmark again"
        ) from error
    lines = [header, ["---"] * len(header), *rows]
    text = "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
    told = [", ".join(names) + (f": {note}" if note else "") for note, names in sources.items()]
    return f"{text}\n*From {'; '.join(told)}.*\n"


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
