"""The third verb: check a bundle offline, trusting nobody's word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError
from modelguard.evidence import (
    CheckedEvidence,
    PublicKey,
    check_bundle,
    inspect_bundle,
    load_roots,
    load_statements,
)
from modelguard.schemes import read, reader_of
from modelguard.statistics import Multiplicity


def check(
    bundle: str | Path,
    trust: Sequence[PublicKey | str | Path],
    *,
    suspects: int = 1,
    registrations: int = 1,
    tsa_roots: Sequence[str | Path] = (),
    revocations: Sequence[str | Path] = (),
) -> CheckedEvidence:
    """Check a bundle and return what it proves.

    Args:
        bundle: folder written by `Verdict.certify`, or an uncompressed zip of its files.
        trust: public keys, or their PEM files, of the owner and examiner the caller believes in. Nothing in
            the bundle can add to them.
        suspects: trials the caller wants counted at least.
        registrations: likewise.
        tsa_roots: PEM files with the root certificates of the timestamp authorities the caller believes in.
        revocations: files with revocations and rotations the caller knows of, or folders of such files; a
            bundle can leave out those that speak against it.

    Raises:
        EvidenceError: the bundle does not prove what it claims; its `diagnostics` say why.
        InputError: no such key file, nobody is trusted, or there is a timestamp and no root to verify it by.
    """
    keys = [one if isinstance(one, PublicKey) else PublicKey.load(one) for one in trust]
    checked = check_bundle(
        bundle,
        keys,
        trigger=_step("trigger"),
        bits=_step("bits"),
        decode=_step("decode"),
        decode_photo=_step("decode_photo"),
        multiplicity=Multiplicity(suspects, registrations, 0),
        roots=load_roots(tsa_roots),
        revocations=load_statements(revocations),
    )
    reader_of(checked.registration)
    return checked


def inspect(bundle: str | Path) -> dict[str, Any]:
    """Return what a bundle says without judging any of it; to believe it, `check` it.

    Args:
        bundle: folder, or an uncompressed zip of its files.

    Returns:
        JSON-able, by file of the bundle; see `modelguard.evidence.inspect_bundle`.

    Raises:
        EvidenceError: its files break the format.
    """
    return inspect_bundle(bundle)


def _step(name: str) -> Callable[..., Any]:
    """Return a step of whatever reader the record names; what that cannot use is the record's fault."""

    def step(scheme: Mapping[str, Any], *rest: Any) -> Any:
        reader = read(scheme)
        if not hasattr(reader, name):
            raise EvidenceError(
                f"certificate.selection: not as {scheme['id']} is read", "ask for a valid certificate"
            )
        try:
            return getattr(reader, name)(scheme, *rest)
        except InputError as error:
            raise MalformedEvidenceError(
                f"registration.{error.message}", "ask its owner for a valid record"
            ) from error

    return step
