"""`modelguard owner`: make a signing key, look at it, hand it over, revoke it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelguard._files import check_new
from modelguard.cli.app import MATCH
from modelguard.cli.output import emit
from modelguard.cli.secrets import ask_until_right
from modelguard.cli.stamps import TSA_HELP, TSA_ROOT_HELP, authority

if TYPE_CHECKING:
    from modelguard.evidence import Owner, Statement

EFFECTIVE_HELP = (
    "From when on the key or record no longer counts, such as 2026-11-21T06:50:00Z; by default now."
)
RECOVERY_HELP = "Signing key of the recovery key, to be used in place of the old one."
JSON_HELP = "Write one JSON object to stdout."

OwnerFile = Annotated[Path, typer.Argument(metavar="OWNER", help="Signing key, such as acme.pem.")]
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Reason = Annotated[str, typer.Option(help="Why, in words; public.")]
Out = Annotated[Path, typer.Option(help="New file for the statement, NAME.dsse.json; publish it.")]


class Algorithm(StrEnum):
    """How the first key signs."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


def create(
    owner: OwnerFile,
    name: Annotated[str, typer.Option(help="The owner as records shall show it.")],
    alg: Annotated[Algorithm, typer.Option(help="Algorithm of the key.")] = Algorithm.ED25519,
    ml_dsa: Annotated[
        bool, typer.Option("--ml-dsa", help="Sign by ML-DSA-65 as well, for evidence that shall last.")
    ] = False,
    recovery: Annotated[
        Path | None, typer.Option(help="Public key (PEM) that may revoke or replace this one.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Make a signing key: OWNER, encrypted, and its public half beside it, for those who shall trust it."""
    public = check_new(check_new(owner, "OWNER").with_suffix(".pub.pem"), "OWNER")

    from modelguard.evidence import Owner, PublicKey, resolve_passphrase

    recovers = None if recovery is None else PublicKey.load(recovery)
    passphrase = resolve_passphrase(None, confirm=True)
    made = Owner.create(owner, name, passphrase, alg=alg.value, ml_dsa=ml_dsa, recovery=recovers)
    made.save_public(public)
    text = f"{_text(made)}\n\n{owner}      secret: keep it\n{public}  give it to those who shall trust you"
    emit({**_record(made), "file": str(owner), "public": str(public)}, text, as_json)
    return MATCH


def show(owner: OwnerFile, as_json: Json = False) -> int:
    """Show the public parts of a signing key."""
    opened = _open(owner)[1]
    emit(_record(opened), _text(opened), as_json)
    return MATCH


def rotate(
    owner: OwnerFile,
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Signing key that takes over; made before.")],
    reason: Reason,
    out: Out,
    recovery: Annotated[Path | None, typer.Option(help=RECOVERY_HELP)] = None,
    effective: Annotated[str | None, typer.Option(help=EFFECTIVE_HELP)] = None,
    tsa: Annotated[str | None, typer.Option(metavar="URL", help=TSA_HELP)] = None,
    tsa_root: Annotated[list[Path] | None, typer.Option(help=TSA_ROOT_HELP)] = None,
    as_json: Json = False,
) -> int:
    """Hand OWNER over to NEW. With --recovery, OWNER may be its public key: the secret one may be lost.

    What OWNER signed without a timestamp no longer counts from then on.
    """
    check_new(out, "out")

    from modelguard.evidence import PublicKey
    from modelguard.evidence import rotate as hand_over

    stamps = authority(tsa, tsa_root)
    old = PublicKey.load(owner) if recovery else None
    signer, heir = _open(recovery or owner)[1], _open(new)[1]
    return _write(hand_over(signer, heir, reason, old=old, effective=effective, tsa=stamps), out, as_json)


def revoke(
    owner: OwnerFile,
    reason: Reason,
    out: Out,
    target: Annotated[
        str | None, typer.Option(help="Key id or record id to revoke; by default the key in OWNER.")
    ] = None,
    effective: Annotated[str | None, typer.Option(help=EFFECTIVE_HELP)] = None,
    tsa: Annotated[str | None, typer.Option(metavar="URL", help=TSA_HELP)] = None,
    tsa_root: Annotated[list[Path] | None, typer.Option(help=TSA_ROOT_HELP)] = None,
    as_json: Json = False,
) -> int:
    """Revoke the key in OWNER, a record it signed, or with --target the key whose recovery key OWNER is."""
    check_new(out, "out")

    from modelguard.evidence import revoke as end

    stamps, signer = authority(tsa, tsa_root), _open(owner)[1]
    return _write(end(signer, target or signer.keyid, reason, effective=effective, tsa=stamps), out, as_json)


def _open(path: Path) -> tuple[str, Owner]:
    from modelguard.evidence import Owner

    return ask_until_right(lambda passphrase: Owner.load(path, passphrase))


def _write(statement: Statement, out: Path, as_json: bool) -> int:
    statement.save(out)
    record = {"target": statement.target, "effective": statement.effective, "record": statement.record_id}
    text = f"{statement.target}\nno longer counts from {statement.effective} on\n\n{out}  publish this"
    emit({**record, "file": str(out), "stamped": bool(statement.token)}, text, as_json)
    return MATCH


def _record(owner: Owner) -> dict[str, Any]:
    second, recovery = owner.public.second, owner.recovery
    return {
        "name": owner.name,
        "keyid": owner.keyid,
        "alg": owner.public.alg,
        "second": second and second.keyid,
        "recovery": recovery and recovery.keyid,
    }


def _text(owner: Owner) -> str:
    return "\n".join(f"{name:9} {value}" for name, value in _record(owner).items() if value)


owner = typer.Typer()
for command in (create, show, rotate, revoke):
    owner.command()(command)
