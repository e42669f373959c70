"""Opening the leaves of a session in two steps: triggers to ask with, bits once the answers are fixed.

An examiner who is not the owner asks the suspect with `Triggers`, which hold x_K and only a digest of x_b.
The owner then signs `Bits` for the one transcript that came of it. Both lie under the committed root, so
neither side can change its mind; and whoever decoded the answers had no bits to look at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from modelguard._files import atomic_write_bytes
from modelguard.errors import EvidenceError, InputError
from modelguard.evidence import dsse, merkle, records
from modelguard.evidence.blobs import read_bounded
from modelguard.evidence.key import Key
from modelguard.evidence.owner import Owner, PublicKey
from modelguard.evidence.registration import Registration
from modelguard.evidence.stamped import read_token
from modelguard.evidence.timestamps import Roots, TimestampAuthority, transcript_message
from modelguard.evidence.transcript import (
    TRANSCRIPT_FILE,
    Session,
    Transcript,
    chain,
    check_coverage,
    parse_lines,
)

FORMAT = "modelguard-triggers/1"
BITS_FILE = "bits.dsse.json"
TRANSCRIPT_TOKEN_FILE = "transcript.tsr"

_TRIGGERS = records.table(
    format=records.one_of(FORMAT),
    registration=records.base64_text,
    suspect=records.suspect,
    selection=records.selection,
    optional={"registrationToken": records.base64_text},
    openings=records.each(
        records.table(
            leaf=records.integer(0, records.MAX_LEAVES - 1),
            xK=records.digest,
            bits=records.digest,
            path=records.each(records.digest, 16, 0),
        ),
        records.MAX_SELECTED,
    ),
)


class OpenTrigger(NamedTuple):
    """A leaf of which only the trigger is open.

    Attributes:
        secret_k: x_K, 32 bytes.
        digest_b: SHA256("b" || x_b).
        path: Merkle path up to the root.
    """

    secret_k: bytes
    digest_b: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class Triggers:
    """What an examiner needs to ask a suspect, and not more; made by `open_triggers`.

    Attributes:
        registration: of the marked model.
        session: which leaves are asked, and whom.
        leaves: the selected leaves in the order in which they are asked.
        roots: of the timestamp authorities that the examiner trusts.

    Raises:
        EvidenceError: the leaves are not those the session selects, or not under the committed root.
    """

    registration: Registration
    session: Session
    leaves: Mapping[int, OpenTrigger] = field(repr=False)
    roots: Roots = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.session.registration != self.registration.record_id:
            raise EvidenceError("triggers.session: of another registration", "ask the owner again")
        if tuple(self.leaves) != self.session.leaves(self.registration):
            raise EvidenceError("triggers: not of the selected leaves", "ask the owner again")
        for index, one in self.leaves.items():
            value = merkle.leaf_with_hidden_bits(index, one.secret_k, one.digest_b)
            merkle.verify(value, index, self.registration.leaves, one.path, self.registration.root)

    def save(self, path: str | Path) -> Path:
        """Write the file for the examiner; keep it from the suspect until the session is over.

        Raises:
            InputError: the file exists.
        """
        session = self.session.to_record()
        fields: dict[str, Any] = {
            **session,
            "format": FORMAT,
            "registration": records.b64(self.registration.envelope),
            "openings": [
                {
                    "leaf": index,
                    "xK": one.secret_k.hex(),
                    "bits": one.digest_b.hex(),
                    "path": [node.hex() for node in one.path],
                }
                for index, one in self.leaves.items()
            ],
        }
        if self.registration.token:
            fields["registrationToken"] = records.b64(self.registration.token)
        return atomic_write_bytes(path, records.dumps(fields), mode=0o600)

    @classmethod
    def load(cls, path: str | Path, trust: Sequence[PublicKey], roots: Roots = ()) -> Triggers:
        """Read what `save` wrote and check it against the owner's public key.

        Args:
            path: of the file.
            trust: public keys of the owner, from a source other than the file.
            roots: of the timestamp authorities that the examiner trusts.

        Raises:
            SignatureError: no trusted key signed the registration.
            MalformedEvidenceError: the file breaks the format.
            EvidenceError: it cannot be read, or the leaves are not those of the session and the registration.
        """
        fields = records.loads(read_bounded(Path(path), records.MAX_JSON_BYTES))
        _TRIGGERS("triggers", fields)
        envelope = records.unb64(fields["registration"], "triggers.registration")
        token = records.unb64(fields.get("registrationToken", ""), "triggers.registrationToken")
        registration = Registration.from_envelope(envelope, trust, token, roots)
        session = Session.from_record(registration.record_id, fields["suspect"], fields["selection"])
        leaves = {
            one["leaf"]: OpenTrigger(
                bytes.fromhex(one["xK"]),
                bytes.fromhex(one["bits"]),
                tuple(bytes.fromhex(node) for node in one["path"]),
            )
            for one in fields["openings"]
        }
        try:
            return cls(registration, session, leaves, tuple(roots))
        except InputError as error:
            raise EvidenceError(f"triggers.{error.message}", "ask the owner again") from None

    @cached_property
    def salt(self) -> bytes:
        """The key's salt, derived again from what is public."""
        return self.registration.salt()

    def __repr__(self) -> str:
        return f"Triggers(leaves={tuple(self.leaves)}, suspect={self.session.suspect.label!r})"


@dataclass(frozen=True)
class Bits:
    """The owner's signed opening of a session's bits for one transcript; made by `open_bits`.

    Attributes:
        envelope: the signed file.
        secrets: x_b by leaf.
        transcript: the fields that fix the transcript: alg, count, sha256, head.
        token: digest of the timestamp that closed the transcript, in hexadecimal; None without one.
    """

    envelope: bytes = field(repr=False)
    secrets: Mapping[int, bytes] = field(repr=False)
    transcript: Mapping[str, Any]
    token: str | None

    @classmethod
    def from_envelope(cls, envelope: bytes, registration: Registration) -> Bits:
        """Verify the record against the registration's owner.

        Raises:
            SignatureError: the owner did not sign it.
            MalformedEvidenceError: it breaks the format.
            EvidenceError: it is another registration's.
        """
        verified = dsse.verify(envelope, [registration.owner])
        subject, fields = records.parse_statement(verified.payload, records.BITS_TYPE)
        if fields["registration"] != registration.record_id:
            raise EvidenceError("bits.registration: another", "ask the owner for the right record")
        if subject != {TRANSCRIPT_FILE: fields["transcript"]["sha256"]}:
            raise EvidenceError("bits.subject: not the transcript", "ask the owner for a valid record")
        secrets = {one["leaf"]: bytes.fromhex(one["xb"]) for one in fields["bits"]}
        return cls(envelope, secrets, fields["transcript"], fields.get("transcriptToken"))

    @classmethod
    def load(cls, path: str | Path, registration: Registration) -> Bits:
        """Read and verify a file; raises as `from_envelope`, and EvidenceError if it cannot be read."""
        return cls.from_envelope(read_bounded(Path(path), 2 * records.MAX_JSON_BYTES), registration)

    def save(self, path: str | Path) -> Path:
        """Write the signed file.

        Raises:
            InputError: the file exists.
        """
        return atomic_write_bytes(path, self.envelope)


@dataclass(frozen=True, repr=False)
class Opened:
    """Triggers and bits of a session put together: to `certify`, what a key is.

    Attributes:
        triggers: what the suspect was asked with.
        bits: what the owner opened afterwards.

    Raises:
        EvidenceError: the bits are not those that the triggers' leaves were committed with.
    """

    triggers: Triggers
    bits: Bits

    def __post_init__(self) -> None:
        committed = {index: one.digest_b for index, one in self.triggers.leaves.items()}
        if {index: merkle.hide_bits(x) for index, x in self.bits.secrets.items()} != committed:
            raise EvidenceError(
                "bits: not those of the triggers' leaves", "ask the owner for the right record"
            )

    @property
    def salt(self) -> bytes:
        """The key's salt."""
        return self.triggers.salt

    @property
    def roots(self) -> Roots:
        """Of the timestamp authorities that the examiner trusts."""
        return self.triggers.roots

    @property
    def commitment(self) -> dict[str, Any]:
        """The commitment that these leaves lie under."""
        commitment: dict[str, Any] = self.triggers.registration.fields["watermark"]["keyCommitment"]
        return commitment

    def leaf(self, index: int) -> tuple[bytes, bytes]:
        """Return (x_K, x_b) of a selected leaf."""
        return self.triggers.leaves[index].secret_k, self.bits.secrets[index]

    def path(self, index: int) -> list[bytes]:
        """Return the Merkle path of a selected leaf."""
        return list(self.triggers.leaves[index].path)


def open_triggers(key: Key, registration: Registration, session: Session) -> Triggers:
    """Open the triggers of the leaves that an examiner's session selects; their bits stay hidden.

    Args:
        key: the owner's key; burn the leaves in its file before handing the triggers out.
        registration: the one this key was made for.
        session: drawn by the examiner, with the leaves used before excluded.

    Raises:
        InputError: the session is about another registration, or selects a leaf that was used before.
    """
    if session.registration != registration.record_id:
        raise InputError("session: about another registration", "send the examiner yours")
    leaves = session.leaves(registration)
    if used := key.burnt.intersection(leaves):
        raise InputError(
            f"session: leaf {min(used)} was used before and proves nothing",
            f"let the examiner draw again and exclude {sorted(key.burnt)}",
        )
    opened = {
        leaf: OpenTrigger(secret_k, merkle.hide_bits(secret_b), tuple(key.path(leaf)))
        for leaf in leaves
        for secret_k, secret_b in [key.leaf(leaf)]
    }
    return Triggers(registration, session, opened)


def open_bits(owner: Owner, key: Key, registration: Registration, transcript: Transcript) -> Bits:
    """Sign the opening of a session's bits for this transcript, and so for no other.

    Args:
        owner: the owner of the registration.
        key: the owner's key.
        registration: the one this key was made for.
        transcript: finished, as the examiner sends it.

    Raises:
        InputError: the key or the owner is not the registration's, or the session is another's.
        EvidenceError: the transcript does not cover the selected leaves or the photos, once each.
    """
    session = transcript.session
    if owner.public != registration.owner or session.registration != registration.record_id:
        raise InputError("transcript: not about this owner's registration", "load the key it is about")
    leaves = session.leaves(registration)
    check_coverage(transcript.lines, session, leaves)
    data = transcript.read()
    closed = transcript_record(session, data)
    fields: dict[str, Any] = {
        "schema": "1.0",
        "registration": registration.record_id,
        "transcript": closed,
        "bits": [{"leaf": leaf, "xb": key.leaf(leaf)[1].hex()} for leaf in leaves],
    }
    if token := read_token(transcript.folder / TRANSCRIPT_TOKEN_FILE):  # so the bits came after that time
        fields["transcriptToken"] = hashlib.sha256(token).hexdigest()
    subject = {TRANSCRIPT_FILE: closed["sha256"]}
    payload = records.build_statement(subject, records.BITS_TYPE, fields)
    return Bits.from_envelope(dsse.sign(payload, owner), registration)


def close(transcript: Transcript, tsa: TimestampAuthority) -> Path:
    """Have a finished transcript stamped, before its bits are opened; the token stays in its folder.

    Raises:
        InputError: it is stamped already.
        TimestampError: the authority gave no good timestamp.
    """
    head = chain(transcript.session.first_link(), transcript.read())
    token = tsa.stamp(transcript_message(head))
    return atomic_write_bytes(transcript.folder / TRANSCRIPT_TOKEN_FILE, token)


def transcript_record(session: Session, data: bytes) -> dict[str, Any]:
    """Return the `transcript` field, which fixes every byte of a session's transcript.

    Raises:
        MalformedEvidenceError: a line is cut, out of order or breaks its table.
    """
    return {
        "alg": "sha256-chain/1",
        "count": len(parse_lines(data)),
        "sha256": hashlib.sha256(data).hexdigest(),
        "head": chain(session.first_link(), data).hex(),
    }
