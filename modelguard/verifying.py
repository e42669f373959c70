"""The second verb: ask a suspect, and say how surprising its answers would be without the secret key."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from modelguard._files import check_new
from modelguard.certifying import certify, registration_of
from modelguard.errors import InputError, SuspectError
from modelguard.evidence import (
    CheckedEvidence,
    Key,
    Owner,
    Registration,
    Session,
    SuspectInfo,
    TimestampAuthority,
    Transcript,
    needed_grind_bits,
)
from modelguard.schemes import Reader, reader_of
from modelguard.statistics import Multiplicity, SignTest, sign_test
from modelguard.suspects import Suspect, as_suspect

Outcome = Literal["match", "inconclusive"]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a suspect's answers show.

    Attributes:
        outcome: "match" if the adjusted p-value is at most alpha, else "inconclusive" (never "innocent").
        test: the exact sign test: bits, agreeing bits, statistic, exact tail.
        log10_p_adj: log10 of the p-value with all declared trials counted.
        alpha: the level asked for.
        multiplicity: the declared trials.
        queries: questions put to the suspect.
        refused: questions it refused; they carry no evidence.
        suspect: who was asked.
        key: with which key.
        registration: the public record of that key.
        transcript: what was asked and answered.
    """

    outcome: Outcome
    test: SignTest
    log10_p_adj: float
    alpha: float
    multiplicity: Multiplicity
    queries: int
    refused: int
    suspect: SuspectInfo
    key: Key
    registration: Registration
    transcript: Transcript

    @property
    def match(self) -> bool:
        """Whether the answers depend on the key at the level asked for."""
        return self.outcome == "match"

    def __str__(self) -> str:
        """Return the verdict as one line for people."""
        refused = f", {self.refused} refused" if self.refused else ""
        return (
            f"{self.outcome}: {self.test.matches}/{self.test.bits} bits agree, "
            f"p <= 10^{self.log10_p_adj:.1f} with all trials counted, {self.queries} queries{refused}"
        )

    def certify(
        self,
        examiner: Owner,
        folder: str | Path,
        mode: str = "self",
        tsa: TimestampAuthority | None = None,
    ) -> CheckedEvidence:
        """Write signed evidence of this session; see `modelguard.certifying.certify`."""
        return certify(
            self.transcript,
            self.key,
            examiner,
            folder,
            mode=mode,
            suspects=self.multiplicity.suspects,
            registrations=self.multiplicity.registrations,
            tsa=tsa,
        )


def verify(
    suspect: Suspect | nn.Module | Callable[..., object],
    key: Key | str | Path,
    *,
    alpha: float = 1e-6,
    queries: int = 1,
    suspects: int = 1,
    registrations: int = 1,
    label: str | None = None,
    transcript: str | Path | None = None,
    passphrase: str | None = None,
) -> Verdict:
    """Ask a suspect service whether it runs a model marked with `key`.

    Args:
        suspect: an nn.Module, a callable that takes and returns an 8-bit image, or any `Suspect`.
        key: the owner's key, or its file.
        alpha: level of the verdict, after all trials are counted.
        queries: how many images to send; each asks as many leaves as the key's scheme packs into one.
        suspects: how many suspects are examined in all with this key; each counts as a trial.
        registrations: how many registrations the owner could have used.
        label: name of the suspect in the record.
        transcript: new folder for the transcript; None keeps it in a temporary one until the verdict goes.
        passphrase: of the key file.

    Raises:
        InputError: no key file there, no registration in it, an argument out of range, or too few leaves.
        WrongPassphraseError: the passphrase does not open the key file.
        SuspectError: the suspect answered no question at all.
    """
    if isinstance(key, (str, Path)):
        key = Key.load(key, passphrase)
    if not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha} is no level", "use a number between 0 and 1, such as 1e-6")
    if queries < 1:
        raise InputError(f"queries: {queries} is too few", "ask one or more")
    asked = as_suspect(suspect)
    registration = registration_of(key)
    multiplicity = Multiplicity(suspects, registrations, needed_grind_bits(registration, len(key.burnt)))
    reader = reader_of(registration)
    per_query = int(registration.scheme["perQuery"])
    info = SuspectInfo(label or type(suspect).__name__, asked.kind, asked.endpoint)
    session = Session.draw(registration, info, queries * per_query, key.burnt)
    written = _transcript(transcript, session)
    signs, scores, refused = _ask(asked, reader, registration, key, session, written, per_query)
    if refused == queries:
        raise SuspectError(
            f"suspect: it refused all {queries} queries", "check its address and the image format it takes"
        )
    test = sign_test(signs, scores, int(registration.scheme["levels"]))
    adjusted = multiplicity.adjust(test.log10_p)
    outcome: Outcome = "match" if test.p * multiplicity.factor <= Fraction(str(alpha)) else "inconclusive"
    return Verdict(
        outcome, test, adjusted, alpha, multiplicity, queries, refused, info, key, registration, written
    )


def _transcript(folder: str | Path | None, session: Session) -> Transcript:
    if folder is not None:
        return Transcript.create(check_new(folder, "transcript"), session)
    temporary = tempfile.mkdtemp(prefix="modelguard-")
    written = Transcript.create(temporary, session)
    weakref.finalize(written, shutil.rmtree, temporary, ignore_errors=True)
    return written


def _ask(
    suspect: Suspect,
    reader: Reader,
    registration: Registration,
    key: Key,
    session: Session,
    written: Transcript,
    per_query: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    selection = session.leaves(registration)
    signs, scores, refused = [], [], 0
    for start in range(0, len(selection), per_query):
        leaves = selection[start : start + per_query]
        secrets = [key.leaf(leaf) for leaf in leaves]
        query = reader.trigger(registration.scheme, [secret for secret, _ in secrets], key.salt)
        answer = suspect.ask(query)
        written.add(
            "trigger",
            query,
            status=answer.status,
            leaves=leaves,
            raw=answer.raw or None,
            raw_type=answer.media_type if answer.raw else None,
            decoded=answer.image,
        )
        bits = [reader.bits(registration.scheme, secret, key.salt) for _, secret in secrets]
        signs.append(np.concatenate(bits))
        if answer.image is None:
            refused += 1
            scores.append(np.zeros(signs[-1].shape, np.int64))
        else:
            scores.append(reader.decode(registration.scheme, [s for s, _ in secrets], key.salt, answer.image))
    return np.concatenate(signs), np.concatenate(scores), refused
