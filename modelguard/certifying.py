"""Signing what a session with a suspect showed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelguard.errors import InputError
from modelguard.evidence import (
    CheckedEvidence,
    Key,
    Opened,
    Owner,
    PublicKey,
    Registration,
    TimestampAuthority,
    Transcript,
    load_statements,
)
from modelguard.evidence import certify as certify_session
from modelguard.schemes import PhotoReader, TriggerReader, reader_of
from modelguard.statistics import Multiplicity


def certify(
    transcript: Transcript | str | Path,
    key: Key | Opened,
    examiner: Owner,
    folder: str | Path,
    *,
    mode: str | None = None,
    suspects: int = 1,
    registrations: int = 1,
    tsa: TimestampAuthority | None = None,
    revocations: Sequence[str | Path] = (),
) -> CheckedEvidence:
    """Open the leaves that were asked and write a signed bundle that anyone can check offline.

    The bundle publishes the secrets of those leaves. They are marked as used in the file that the key was
    loaded from, so that `verify` picks them no more; save another key again with `key.burn(evidence.leaves)`.

    Args:
        transcript: of the session, or its folder.
        key: the owner's key, with which the suspect was asked; or what the owner opened to an arbiter, see
            `modelguard.arbitrating`.
        examiner: who signs; the owner himself, or a witness or arbiter.
        folder: of the new bundle.
        mode: states who asked, and must fit: "self" for the owner's own signature, "witness" for another's
            who asked with the owner's key, "arbiter" for one who never held it. None takes the one that fits.
        suspects: how many suspects are examined in all with this key; each counts as a trial.
        registrations: how many registrations the owner could have used.
        tsa: stamps the closed transcript and the certificate.
        revocations: files with revocations and rotations of the keys involved, to go with the bundle.

    Raises:
        TimestampError: the authority gave no good timestamp.
        InputError: the folder exists, or the key carries no registration.
        EvidenceError: no transcript there, one of another key, or `mode` does not fit the examiner.
    """
    registration = key.triggers.registration if isinstance(key, Opened) else registration_of(key)
    if mode is None:
        by_key = "self" if examiner.public == registration.owner else "witness"
        mode = "arbiter" if isinstance(key, Opened) else by_key
    reader = reader_of(registration)
    return certify_session(
        folder,
        registration=registration,
        key=key,
        transcript=transcript if isinstance(transcript, Transcript) else Transcript(transcript),
        examiner=examiner,
        mode=mode,
        trigger=reader.trigger if isinstance(reader, TriggerReader) else None,
        bits=reader.bits,
        decode=reader.decode if isinstance(reader, TriggerReader) else None,
        decode_photo=reader.decode_photo if isinstance(reader, PhotoReader) else None,
        multiplicity=Multiplicity(suspects, registrations, registration.grind_bits),
        tsa=tsa,
        revocations=load_statements(revocations),
    )


def registration_of(key: Key) -> Registration:
    """Return the registration that `protect` put into a key.

    Raises:
        InputError: there is none.
        EvidenceError: it is not signed by the key's owner, or breaks the format.
    """
    if "registration" not in key.extras:
        raise InputError("key: carries no registration", "use a key that `protect` made")
    return Registration.from_envelope(
        key.extras["registration"],
        [PublicKey.from_der(key.owner)],
        key.extras.get("registration.tsr", b""),
        key.roots,
    )
