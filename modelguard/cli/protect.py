"""`modelguard protect`: mark a model and keep the key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelguard._files import check_new
from modelguard.cli.app import MATCH
from modelguard.cli.naming import MODEL_HELP, WEIGHTS_HELP, load_model
from modelguard.cli.output import emit
from modelguard.cli.secrets import owner_in
from modelguard.cli.stamps import TSA_HELP, TSA_ROOT_HELP, authority
from modelguard.errors import InputError

if TYPE_CHECKING:
    from modelguard.schemes import Scheme


class SchemeName(StrEnum):
    """Schemes by name."""

    trigger_key = "trigger-key"
    barrier = "barrier"
    symmetric_barrier = "symmetric-barrier"
    wave_barrier = "wave-barrier"
    self_watermark = "self-watermark"


BEHIND = "serve this, and keep it: it holds the mark in the open"
SHIP = {
    SchemeName.trigger_key: "ship this",
    SchemeName.barrier: BEHIND,
    SchemeName.symmetric_barrier: BEHIND,
    SchemeName.wave_barrier: BEHIND,
    SchemeName.self_watermark: "ship this",
}
SIGMA_HELP = "Noise the model removes, in grey levels of 255 (25 by default). For models that keep the size."


def protect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the result.")],
    data: Annotated[Path, typer.Option(help="Folder of ordinary clean images: two at least, 64 px or more.")],
    owner: Annotated[Path, typer.Option(help="Signing key of the owner, such as acme.pem.")],
    create_owner: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make the file of --owner, for an owner of this name.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)] = None,
    scheme: Annotated[
        SchemeName,
        typer.Option(
            help="trigger-key: trained into the model, read from secret textures; for a model that is given "
            "away. barrier: put behind it without training, read from any photo; networks that are trained "
            "on its answers learn part of it; for a service you run. symmetric-barrier: the same for colour, "
            "learnt from mirrored copies too. wave-barrier: turns and flips with the photo, not made to be "
            "learnt. self-watermark: a barrier's mark, trained into the model."
        ),
    ] = SchemeName.trigger_key,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; by default the scheme's.")] = None,
    leaves: Annotated[
        int | None, typer.Option(min=1, help="Leaves in the key; each certificate uses some up.")
    ] = None,
    sigma: Annotated[float | None, typer.Option(min=0, help=SIGMA_HELP)] = None,
    name: Annotated[str, typer.Option(help="Name of the model in the record.")] = "model",
    version: Annotated[str, typer.Option(help="Its version in the record.")] = "1",
    tsa: Annotated[str | None, typer.Option(metavar="URL", help=TSA_HELP)] = None,
    tsa_root: Annotated[list[Path] | None, typer.Option(help=TSA_ROOT_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Mark a copy of a model, so that you can recognise it later.

    OUT gets model.safetensors (to ship or to serve, as it says), key.mgkey (secret and encrypted: keep it),
    registration.dsse.json (publish it before the model) and report.txt; with --tsa also registration.tsr, to
    be published with it.
    The passphrase comes from MODELGUARD_PASSPHRASE, or is asked for.
    """
    check_new(out, "OUT")
    stamps = authority(tsa, tsa_root)
    host = load_model(model, weights)

    from modelguard.datasets import GaussianNoise
    from modelguard.evidence import resolve_passphrase
    from modelguard.protecting import protect as mark
    from modelguard.schemes import Barrier, SelfWatermark, SymmetricBarrier, TriggerKey, WaveBarrier

    given = {key: value for key, value in (("steps", steps), ("leaves", leaves)) if value is not None}
    schemes: dict[SchemeName, Callable[..., Scheme]] = {
        SchemeName.trigger_key: TriggerKey,
        SchemeName.barrier: Barrier,
        SchemeName.symmetric_barrier: SymmetricBarrier,
        SchemeName.wave_barrier: WaveBarrier,
        SchemeName.self_watermark: SelfWatermark,
    }
    if SHIP[scheme] == BEHIND and steps is not None:
        raise InputError("steps: a barrier is not trained", "leave them out")
    if scheme is SchemeName.wave_barrier and leaves is not None:
        given["per_session"] = min(WaveBarrier.per_session, leaves)
    how = schemes[scheme](**given)
    passphrase = resolve_passphrase(None, confirm=create_owner is not None)
    with owner_in(owner, create_owner, passphrase) as signer:
        protected = mark(
            host,
            how,
            data=data,
            owner=signer,
            task=None if sigma is None else GaussianNoise(sigma),
            name=name,
            version=version,
            progress=True,
            tsa=stamps,
        )
        protected.save(out, passphrase)
    result = {
        "out": str(out),
        "owner": {"name": signer.name, "keyid": signer.keyid},
        "registration": protected.registration.record_id,
        "leaves": protected.key.leaves,
        "report": asdict(protected.report),
    }
    text = (
        f"{protected.report}\n\n"
        f"{out}/model.safetensors        {SHIP[scheme]}\n"
        f"{out}/key.mgkey                secret: keep it\n"
        f"{out}/registration.dsse.json   publish this before the model"
    )
    if stamps is not None:
        text += f"\n{out}/registration.tsr         and this with it"
    emit(result, text, as_json)
    return MATCH
