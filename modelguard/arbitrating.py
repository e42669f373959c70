"""Asking a suspect as somebody who is not the owner and never holds the secret bits.

The examiner draws a session (`draw`) and sends its file to the owner, who answers with triggers
(`open_triggers`). The examiner asks with these (`ask`) and sends back the finished transcript, for which
alone the owner signs the bits (`open_bits`). With both, `Opened(triggers, bits)`, the examiner can `certify`.
Leaves held in reserve let another examiner do it again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from modelguard import evidence
from modelguard.certifying import certify, registration_of
from modelguard.errors import InputError, SuspectError
from modelguard.evidence import (
    Bits,
    Key,
    Opened,
    Owner,
    PublicKey,
    Registration,
    Session,
    SuspectInfo,
    TimestampAuthority,
    Transcript,
    Triggers,
    load_roots,
)
from modelguard.schemes import reader_of
from modelguard.suspects import as_suspect

__all__ = ["Bits", "Opened", "Triggers", "ask", "certify", "draw", "open_bits", "open_triggers"]


def draw(
    folder: str | Path,
    registration: Registration | str | Path,
    suspect: object,
    *,
    trust: Sequence[PublicKey] = (),
    tsa_roots: Sequence[str | Path] = (),
    queries: int = 1,
    label: str | None = None,
    exclude: Collection[int] = (),
) -> Transcript:
    """Draw the leaves of an examination, before the owner knows them: the examiner's first step.

    Args:
        folder: of the new transcript. Send its `session.json` to the owner.
        registration: of the marked model, or its file.
        suspect: who will be asked: a module, a callable or any `Suspect`.
        trust: public keys of the owner, if `registration` is a file.
        tsa_roots: PEM files with the roots of timestamp authorities the examiner believes in, likewise.
        queries: how many images will be sent.
        label: name of the suspect in the record.
        exclude: leaves the owner says were used before; every choice of such leaves counts as a trial.

    Raises:
        InputError: there is a transcript already, too few leaves are left, or an argument breaks the format.
        EvidenceError: the file is no registration that a trusted key signed.
    """
    if not isinstance(registration, Registration):
        registration = Registration.load(registration, trust, load_roots(tsa_roots))
    asked = as_suspect(suspect)
    info = SuspectInfo(label or type(suspect).__name__, asked.kind, asked.endpoint)
    count = queries * int(registration.scheme["perQuery"])
    return Transcript.create(folder, Session.draw(registration, info, count, exclude))


def open_triggers(key: Key, session: Session | str | Path) -> Triggers:
    """Open the triggers of an examiner's session, and not their bits: the owner's first step.

    Save the key file with `key.burn(triggers.leaves)` before the triggers leave the house: what was handed
    out is never to be asked again.

    Args:
        key: made by `protect`.
        session: the examiner's, or its file.

    Raises:
        InputError: the session is about another registration, or selects a leaf that was used before.
        EvidenceError: the file is no session.
    """
    session = session if isinstance(session, Session) else Session.load(session)
    return evidence.open_triggers(key, registration_of(key), session)


def ask(
    suspect: object,
    triggers: Triggers,
    transcript: Transcript | str | Path,
    tsa: TimestampAuthority | None = None,
) -> Transcript:
    """Ask a suspect with opened triggers: the examiner's second step. What was answered is not asked again.

    Args:
        suspect: the one the session was drawn for.
        triggers: as the owner opened them, for this session.
        transcript: that `draw` made, or its folder.
        tsa: stamps the finished transcript, so that it can be shown that the bits were opened afterwards.

    Returns:
        The transcript, finished. Send it to the owner.

    Raises:
        InputError: the triggers are of another session.
        SuspectError: the suspect could not be asked, or refused every query.
        TimestampError: the authority gave no good timestamp.
    """
    written = transcript if isinstance(transcript, Transcript) else Transcript(transcript)
    if triggers.session != written.session:
        raise InputError(
            "triggers: of another session than the transcript", "ask the owner for those of yours"
        )
    asked, registration, leaves = as_suspect(suspect), triggers.registration, tuple(triggers.leaves)
    reader, per_query = reader_of(registration), int(registration.scheme["perQuery"])
    done = {line.leaves for line in written.lines if line.decoded is not None}
    for start in range(0, len(leaves), per_query):
        group = leaves[start : start + per_query]
        if group in done:
            continue
        secrets = [triggers.leaves[leaf].secret_k for leaf in group]
        query = reader.trigger(registration.scheme, secrets, triggers.salt)
        answer = asked.ask(query)
        written.add(
            "trigger",
            query,
            status=answer.status,
            leaves=group,
            raw=answer.raw or None,
            raw_type=answer.media_type if answer.raw else None,
            decoded=answer.image,
        )
    if not any(line.decoded for line in written.lines):
        raise SuspectError("suspect: it refused every query", "check its address and the format it takes")
    if tsa is not None:
        evidence.close(written, tsa)
    return written


def open_bits(owner: Owner, key: Key, transcript: Transcript | str | Path) -> Bits:
    """Sign the bits of a finished session, for this transcript and no other: the owner's second step.

    Do it once for a session: a second transcript could have been made up with the bits in hand.

    Args:
        owner: of the key.
        key: whose triggers were opened.
        transcript: as the examiner sent it, or its folder.

    Raises:
        InputError: the owner is not the registration's, or the session is another's.
        EvidenceError: the transcript does not cover the selected leaves, once each.
    """
    written = transcript if isinstance(transcript, Transcript) else Transcript(transcript)
    return evidence.open_bits(owner, key, registration_of(key), written)
