"""Asking a suspect as somebody who is not the owner and never holds the secret bits.

The examiner draws a session (`draw`) and sends its file to the owner, who answers with triggers
(`open_triggers`). The examiner asks with these (`ask`) and sends back the finished transcript, for which
alone the owner signs the bits (`open_bits`). With both, `Opened(triggers, bits)`, the examiner can `certify`.
Leaves held in reserve let another examiner do it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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
    TimestampAuthority,
    Transcript,
    Triggers,
    load_roots,
)
from modelguard.evidence.opening import TRANSCRIPT_TOKEN_FILE
from modelguard.schemes import PhotoReader, TriggerReader, reader_of
from modelguard.suspects import Interview, Pacing, as_suspect, describe
from modelguard.suspects.photos import PhotoQueries, Photos

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
        queries: how many triggers, or photos of a mark that is read from photos, will be sent.
        label: name of the suspect in the record.
        exclude: leaves the owner says were used before; every choice of such leaves counts as a trial.

    Raises:
        InputError: there is a transcript already, too few leaves are left, or an argument breaks the format.
        EvidenceError: the file is no registration that a trusted key signed.
    """
    if not isinstance(registration, Registration):
        registration = Registration.load(registration, trust, load_roots(tsa_roots))
    info = describe(as_suspect(suspect), label or type(suspect).__name__)
    scheme, photos = registration.scheme, isinstance(reader_of(registration), PhotoReader)
    count = int(scheme["perSession"]) if photos else queries * int(scheme["perQuery"])
    session = Session.draw(registration, info, count, exclude, photos=queries if photos else 0)
    return Transcript.create(folder, session)


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
    *,
    pacing: Pacing | None = None,
    photos: Photos | None = None,
    progress: Callable[[str], None] | None = None,
) -> Transcript:
    """Ask a suspect with opened triggers: the examiner's second step. Run it again to go on after a crash.

    What was answered, or refused for good, is not asked again. A transcript that was stamped is finished.

    Args:
        suspect: the one the session was drawn for.
        triggers: as the owner opened them, for this session.
        transcript: that `draw` made, or its folder.
        tsa: stamps the finished transcript, so that it can be shown that the bits were opened afterwards.
        pacing: how fast and how often is asked, and when to stop; default `Pacing()`.
        photos: ordinary photos of the examiner's choice, a folder or an ImageSet, for a mark that is read
            from photos.
        progress: is told of refusals and waits, a line each.

    Returns:
        The transcript, finished. Send it to the owner.

    Raises:
        InputError: the triggers are of another session, the suspect is another, or another process is asking.
        BudgetError: the pacing allowed too little; run it again.
        SuspectError: the suspect could not be asked, or refused every query.
        TimestampError: the authority gave no good timestamp.
    """
    folder = transcript.folder if isinstance(transcript, Transcript) else transcript
    asked, registration, leaves = as_suspect(suspect), triggers.registration, tuple(triggers.leaves)
    reader, scheme = reader_of(registration), registration.scheme
    if isinstance(reader, PhotoReader) != (photos is not None):
        raise InputError(
            f"photos: {'none' if photos is None else 'given'} for a mark of {scheme['id']}",
            "give them for a mark that is read from photos, and for no other",
        )
    with Transcript.resume(folder) as written:
        session = written.session
        if triggers.session != session:
            raise InputError(
                "triggers: of another session than the transcript", "ask the owner for those of yours"
            )
        if describe(asked, session.suspect.label) != session.suspect:
            raise InputError(
                f"suspect: {asked.endpoint} is not the session's {session.suspect.endpoint}",
                "ask that one, or draw a new session",
            )
        if (written.folder / TRANSCRIPT_TOKEN_FILE).exists():
            return written
        interview = Interview(asked, written, pacing or Pacing(), progress or (lambda text: None))
        if isinstance(reader, PhotoReader) and photos is not None:
            chosen = PhotoQueries(photos, reader.fitted, int(scheme["channels"]), session)
            chosen.check_begun(written.lines)
            for number in range(len(chosen)):
                interview.put("photo", chosen[number])
        elif isinstance(reader, TriggerReader):
            per_query = int(scheme["perQuery"])
            for start in range(0, len(leaves), per_query):
                group = leaves[start : start + per_query]
                secrets = [triggers.leaves[leaf].secret_k for leaf in group]
                interview.put("trigger", reader.trigger(scheme, secrets, triggers.salt), group)
        if not any(line.decoded for line in written.lines):
            why = f" (the last time: {interview.last_refusal})" if interview.last_refusal else ""
            raise SuspectError(
                f"suspect: it refused every query{why}", "check its address and the format it takes"
            )
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
