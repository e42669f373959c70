"""`modelguard check`: examine a bundle offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelguard._files import check_new
from modelguard.cli.app import INCONCLUSIVE, MATCH
from modelguard.cli.output import emit
from modelguard.cli.stamps import REVOCATION_HELP, TSA_ROOT_HELP

if TYPE_CHECKING:
    from modelguard.evidence import CheckedEvidence


BUNDLE_HELP = "Folder written by `modelguard certify`, or an uncompressed zip of its files."


def check(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help=BUNDLE_HELP)],
    trust: Annotated[
        list[Path],
        typer.Option(
            help="Public key (PEM) of an owner or examiner you believe in; repeat it for several. Get "
            "it from elsewhere than the bundle."
        ),
    ],
    suspects: Annotated[
        int, typer.Option(min=1, help="Suspects you know to have been examined; counted at least.")
    ] = 1,
    registrations: Annotated[
        int, typer.Option(min=1, help="Keys you know the owner to have registered for this model; likewise.")
    ] = 1,
    tsa_root: Annotated[list[Path] | None, typer.Option(help=TSA_ROOT_HELP)] = None,
    revocation: Annotated[list[Path] | None, typer.Option(help=REVOCATION_HELP)] = None,
    report: Annotated[
        Path | None, typer.Option(help="New HTML page that shows people what was proven; needs jinja2.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Check a bundle of evidence, offline and trusting nobody's word but the keys you name.

    Exit code 0 is a proven match, 1 sound evidence that is inconclusive, 2 evidence that does not hold.
    """
    if report is not None:
        check_new(report, "report")
    from modelguard.checking import check as examine

    evidence = examine(
        bundle,
        list(trust),
        suspects=suspects,
        registrations=registrations,
        tsa_roots=tsa_root or (),
        revocations=revocation or (),
    )
    if report is not None:
        from modelguard.report import write

        write(report, bundle, evidence)
    emit(as_record(evidence), as_text(evidence), as_json)
    return MATCH if evidence.verdict == "match" else INCONCLUSIVE


def as_record(evidence: CheckedEvidence) -> dict[str, Any]:
    """Return checked evidence as JSON-able figures."""
    tries = evidence.multiplicity
    return {
        "verdict": evidence.verdict,
        "statement": evidence.statement,
        "limits": list(evidence.limits),
        "owner": evidence.owner,
        "registration": evidence.registration.record_id,
        "suspect": evidence.suspect.to_record(),
        "examiner": evidence.examiner,
        "mode": evidence.mode,
        "bits": evidence.bits,
        "matches": evidence.matches,
        "log10_p": evidence.log10_p,
        "log10_p_adj": evidence.log10_p_adj,
        "multiplicity": {
            "suspects": tries.suspects,
            "registrations": tries.registrations,
            "grind_bits": tries.grind_bits,
        },
        "leaves": list(evidence.leaves),
    }


def as_text(evidence: CheckedEvidence) -> str:
    """Return checked evidence as lines for people."""
    limits = "".join(f"\n  - {limit}" for limit in evidence.limits)
    return (
        f"{evidence.verdict}: {evidence.matches}/{evidence.bits} bits agree, "
        f"p <= 10^{evidence.log10_p_adj:.1f} with all trials counted\n"
        f"owner     {evidence.owner}\nsuspect   {evidence.suspect.label} ({evidence.suspect.endpoint})\n"
        f"examiner  {evidence.examiner} ({evidence.mode})\n\n"
        f"proven: {evidence.statement}\nnot proven:{limits}"
    )
