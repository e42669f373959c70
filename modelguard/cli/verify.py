"""`modelguard verify`: ask a suspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelguard._files import check_new
from modelguard.cli.app import INCONCLUSIVE, MATCH
from modelguard.cli.naming import MODEL_HELP, WEIGHTS_HELP, load_suspect
from modelguard.cli.output import emit
from modelguard.errors import InputError

if TYPE_CHECKING:
    from modelguard.verifying import Verdict

SUSPECTS_HELP = "How many suspects are examined with this key in all; each counts as a trial."


def verify(
    suspect: Annotated[
        str,
        typer.Argument(
            metavar="SUSPECT",
            help=MODEL_HELP + " A service is asked through a factory that returns a function from an 8-bit "
            "image to an 8-bit image.",
        ),
    ],
    key: Annotated[Path, typer.Option(help="Key file of the owner, such as protected/key.mgkey.")],
    weights: Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)] = None,
    alpha: Annotated[float, typer.Option(help="Level of the verdict, all trials counted.")] = 1e-6,
    queries: Annotated[int, typer.Option(min=1, help="Images sent; each asks several leaves.")] = 1,
    suspects: Annotated[int, typer.Option(min=1, help=SUSPECTS_HELP)] = 1,
    label: Annotated[str | None, typer.Option(help="Name of the suspect in the record.")] = None,
    jpeg: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="Q", help="Answer through a JPEG of this quality.")
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="New folder that keeps the session for `modelguard certify`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Ask a suspect whether it runs the model marked with a key.

    Exit code 0 is a match; 1 is inconclusive, which does not mean innocent.
    """
    if transcript is not None:
        check_new(transcript, "transcript")
    asked = load_suspect(suspect, weights)

    from torch import nn

    from modelguard.distortions import Jpeg
    from modelguard.suspects import ModuleSuspect
    from modelguard.verifying import verify as ask

    if jpeg is not None:
        if not isinstance(asked, nn.Module):
            raise InputError("jpeg: is for a model run here", "compress in the function that answers instead")
        asked = ModuleSuspect(asked, Jpeg(jpeg))
    verdict = ask(
        asked,
        key,
        alpha=alpha,
        queries=queries,
        suspects=suspects,
        label=label or suspect,
        transcript=transcript,
    )
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
    }
