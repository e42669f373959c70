"""`modelguard verify`: ask a suspect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelguard._files import check_new
from modelguard.cli.app import FAILURE, INCONCLUSIVE, MATCH
from modelguard.cli.naming import MODEL_HELP, WEIGHTS_HELP, load_suspect
from modelguard.cli.output import emit, note
from modelguard.errors import InputError, SuspectError

if TYPE_CHECKING:
    from modelguard.verifying import Verdict

SUSPECTS_HELP = "How many suspects are examined with this key in all; each counts as a trial."
SUSPECT_HELP = (
    MODEL_HELP + " A service: its `https://` address if it takes and returns an image file as the body, or a "
    "TOML file that says how it is asked. An ONNX file. A factory may also return a function from an 8-bit "
    "image to an 8-bit image."
)
PerMinute = Annotated[float | None, typer.Option(help="Most questions a minute.")]
MaxRequests = Annotated[int | None, typer.Option(min=1, help="Most questions, repeated ones too.")]
MaxSeconds = Annotated[float | None, typer.Option(help="Most time for this run.")]


def verify(
    key: Annotated[Path, typer.Option(help="Key file of the owner, such as protected/key.mgkey.")],
    suspect: Annotated[str | None, typer.Argument(metavar="[SUSPECT]", help=SUSPECT_HELP)] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of stored answers instead of SUSPECT; give it again for more suspects."),
    ] = None,
    export_queries: Annotated[
        Path | None, typer.Option(help="Ask nobody: write the queries to this new folder.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)] = None,
    alpha: Annotated[float, typer.Option(help="Level of the verdict, all trials counted.")] = 1e-6,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1, help="Triggers sent, each for several leaves; 1 unless said. Of --photos 16, waves 3."
        ),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Stop as soon as the level is reached; charged for.")
    ] = False,
    suspects: Annotated[int, typer.Option(min=1, help=SUSPECTS_HELP)] = 1,
    label: Annotated[str | None, typer.Option(help="Name of the suspect in the record.")] = None,
    jpeg: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="Q", help="Answer through a JPEG of this quality.")
    ] = None,
    cover: Annotated[Path | None, typer.Option(help="Folder of photos asked between the triggers.")] = None,
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of photos to ask, for a mark that is in every answer; a few are chosen."),
    ] = None,
    per_minute: PerMinute = None,
    max_requests: MaxRequests = None,
    max_seconds: MaxSeconds = None,
    transcript: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps the session for `modelguard certify`; an unfinished one is resumed. With "
            "several --answers, one folder each in it."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Ask a suspect whether it runs the model marked with a key.

    Exit code 0 is a match; 1 is inconclusive or obstructed, which does not mean innocent.
    """
    if sum(one is not None and one != [] for one in (suspect, answers, export_queries)) != 1:
        raise InputError(
            "SUSPECT: give a suspect, --answers or --export-queries, and no two of them",
            "see `modelguard verify --help`",
        )
    if export_queries is not None:
        folder = check_new(export_queries, "export-queries")
        return _export(key, folder, queries, cover, photos, as_json)
    asked = open_suspect(suspect, weights, jpeg) if suspect is not None else None

    from modelguard.evidence import Key
    from modelguard.suspects import Pacing
    from modelguard.verifying import verify as ask

    options: dict[str, Any] = {
        "key": Key.load(key),
        "alpha": alpha,
        "queries": queries,
        "sequential": sequential,
        "pacing": Pacing(per_minute, requests=max_requests, seconds=max_seconds),
        "cover": cover,
        "photos": photos,
        "progress": note,
    }
    try:
        if answers and len(answers) > 1:
            return _many(answers, max(suspects, len(answers)), transcript, options, as_json)
        one: Any = answers[0] if answers else asked
        name = answers[0].name if answers else suspect
        verdict = ask(one, suspects=suspects, label=label or name, transcript=transcript, **options)
    except KeyboardInterrupt:
        if transcript is not None:
            note(f"to resume: the same command again; {transcript} holds what was asked so far")
        raise
    text = str(verdict)
    if transcript is not None:
        text += (
            f"\nnext: modelguard certify {transcript} --key {key} --owner OWNER.pem --out evidence"
            f" --suspects {suspects}"
        )
    emit({**as_record(verdict), "transcript": transcript and str(transcript)}, text, as_json)
    return MATCH if verdict.match else INCONCLUSIVE


def as_record(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON-able figures."""
    return {
        "verdict": verdict.outcome,
        "suspect": verdict.suspect.to_record(),
        "bits": verdict.test.bits,
        "matches": verdict.test.matches,
        "log10_p": verdict.test.log10_p,
        "log10_p_adj": verdict.log10_p_adj,
        "alpha": verdict.alpha,
        "suspects": verdict.multiplicity.suspects,
        "queries": verdict.queries,
        "refused": verdict.refused,
        "ordinary": verdict.ordinary,
        "ordinary_refused": verdict.ordinary_refused,
        "converted": verdict.converted,
    }


def open_suspect(name: str, weights: Path | None, jpeg: int | None = None) -> Any:
    """Return what SUSPECT names, as `modelguard.verify` takes it.

    Raises:
        InputError: there is no such suspect, or an option does not fit it.
    """
    from torch import nn

    from modelguard.distortions import Jpeg
    from modelguard.suspects import FILES, ModuleSuspect, as_suspect

    if "://" in name or Path(name).suffix in FILES:
        if weights is not None:
            raise InputError(f"weights: {name} needs none", "leave the weights out")
        asked: Any = as_suspect(name)
    else:
        asked = load_suspect(name, weights)
    if jpeg is None:
        return asked
    if not isinstance(asked, nn.Module):
        raise InputError("jpeg: is for a model run here", "compress in the function that answers instead")
    return ModuleSuspect(asked, Jpeg(jpeg))


def _export(
    key: Path, folder: Path, queries: int | None, cover: Path | None, photos: Path | None, as_json: bool
) -> int:
    from modelguard.verifying import export_queries

    export_queries(key, folder, queries=queries, cover=cover, photos=photos)
    count = len(list(folder.glob("*.png")))
    text = (
        f"{folder}: {count} queries. Put each to the suspect, and its answers under the same names, with a "
        f"copy of manifest.json, into a folder; then: modelguard verify --answers FOLDER --key {key}"
    )
    emit({"folder": str(folder), "queries": count}, text, as_json)
    return MATCH


def _many(
    folders: Sequence[Path], suspects: int, transcript: Path | None, options: dict[str, Any], as_json: bool
) -> int:
    """Verify many stored suspects, each counted as a trial; what cannot be read stops none of the others."""
    from modelguard.verifying import verify as ask

    if len({folder.name for folder in folders}) < len(folders):
        raise InputError("answers: two folders have the same name", "the name tells suspects apart")
    results: list[dict[str, Any]] = []
    for folder in folders:
        kept = None if transcript is None else transcript / folder.name
        try:
            verdict = ask(folder, suspects=suspects, label=folder.name, transcript=kept, **options)
        except (InputError, SuspectError) as error:
            note(f"{folder.name}: {error.diagnostics()}")
            results.append({"verdict": "failed", "suspect": {"label": folder.name}, "error": error.message})
            continue
        results.append(as_record(verdict))
        note(f"{folder.name}: {verdict}")
    matches = sum(result["verdict"] == "match" for result in results)
    failed = sum(result["verdict"] == "failed" for result in results)
    text = f"{matches} of {len(folders)} match, {failed} failed; {suspects} suspects counted"
    emit({"results": results, "matches": matches, "failed": failed}, text, as_json)
    if failed:
        return FAILURE
    return MATCH if matches else INCONCLUSIVE
