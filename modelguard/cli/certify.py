"""`modelguard certify`: sign what a session showed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from modelguard._files import check_new
from modelguard.cli.app import INCONCLUSIVE, MATCH
from modelguard.cli.check import as_record, as_text
from modelguard.cli.output import emit
from modelguard.cli.secrets import ask_until_right, open_owner
from modelguard.cli.stamps import REVOCATION_HELP, TSA_HELP, TSA_ROOT_HELP, authority
from modelguard.cli.verify import SUSPECTS_HELP


class Mode(StrEnum):
    """Who asked the suspect."""

    OWNER = "self"
    WITNESS = "witness"
    ARBITER = "arbiter"


def certify(
    transcript: Annotated[
        Path, typer.Argument(metavar="TRANSCRIPT", help="Folder written by `modelguard verify --transcript`.")
    ],
    key: Annotated[Path, typer.Option(help="Key file the suspect was asked with.")],
    owner: Annotated[Path, typer.Option(help="Who signs: the owner, or the witness or arbiter of --mode.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    mode: Annotated[Mode, typer.Option(help="Who asked the suspect.")] = Mode.OWNER,
    suspects: Annotated[int, typer.Option(min=1, help=SUSPECTS_HELP)] = 1,
    tsa: Annotated[str | None, typer.Option(metavar="URL", help=TSA_HELP)] = None,
    tsa_root: Annotated[list[Path] | None, typer.Option(help=TSA_ROOT_HELP)] = None,
    revocation: Annotated[list[Path] | None, typer.Option(help=REVOCATION_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Sign the evidence of a session as a bundle that anyone can check offline.

    The bundle publishes the secrets of the leaves that were asked; they are marked as burnt in the key file
    and not asked again. The passphrase comes from MODELGUARD_PASSPHRASE, or is asked for.
    """
    check_new(out, "out")

    from modelguard.certifying import certify as sign
    from modelguard.evidence import Key

    passphrase, opened = ask_until_right(lambda passphrase: Key.load(key, passphrase))
    examiner = open_owner(owner, passphrase)
    evidence = sign(
        transcript,
        opened,
        examiner,
        out,
        mode=mode.value,
        suspects=suspects,
        tsa=authority(tsa, tsa_root),
        revocations=revocation or (),
    )
    left = opened.leaves - len(opened.burnt.union(evidence.leaves))
    used = ", ".join(map(str, evidence.leaves))
    burnt = f"\n\n{out} is written; leaves {used} are burnt, {left} are left in {key}"
    emit({**as_record(evidence), "bundle": str(out), "leaves_left": left}, as_text(evidence) + burnt, as_json)
    return MATCH if evidence.verdict == "match" else INCONCLUSIVE
