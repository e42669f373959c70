"""Ending a key or a record, and handing a key over to its successor.

A record counts only if its timestamp is earlier than the end of its signer's key, and of the record itself.
One without a timestamp was made nobody knows when, so it counts only while neither has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelguard.errors import (
    EvidenceError,
    InputError,
    KeyFileError,
    MalformedEvidenceError,
    RevokedError,
    SignatureError,
)
from modelguard.evidence import dsse, records
from modelguard.evidence.owner import Owner, PublicKey
from modelguard.evidence.registration import Registration
from modelguard.evidence.stamped import SUFFIX, read_stamped, verify_stamped, write_stamped
from modelguard.evidence.timestamps import Roots, Timestamp, TimestampAuthority

REVOCATION_FOLDER = "revocations"
MAX_STATEMENTS = 1024
MAX_STATEMENT_BYTES = 1 << 16


@dataclass(frozen=True)
class Statement:
    """A revocation or rotation, not yet verified; make it with `revoke` or `rotate`, read it with `load`.

    Attributes:
        envelope: the signed file.
        token: its timestamp; empty without.
        fields: what it says.
        record_id: its identity, 64 hexadecimal digits.
    """

    envelope: bytes = field(repr=False)
    token: bytes = field(default=b"", repr=False)
    fields: Mapping[str, Any] = field(init=False, compare=False)
    record_id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        payload, kind = dsse.unverified(self.envelope)[0], records.ROTATION_TYPE
        try:
            subject, fields = records.parse_statement(payload, kind)
        except MalformedEvidenceError:
            kind = records.REVOCATION_TYPE
            subject, fields = records.parse_statement(payload, kind)
        target = fields["old"] if kind == records.ROTATION_TYPE else fields["target"]
        if subject != {"target": target.removeprefix("sha256:")}:
            raise MalformedEvidenceError("statement.subject: not its target", "ask for a valid statement")
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "record_id", dsse.record_id(payload))
        new = self.successor
        if new and (new.keyid, new.alg) != (fields["new"]["keyid"], fields["new"]["alg"]):
            raise MalformedEvidenceError("rotation.new: not what its key is", "ask for a valid statement")

    @property
    def target(self) -> str:
        """The key id or record id that ends."""
        return str(self.fields.get("old") or self.fields["target"])

    @property
    def successor(self) -> PublicKey | None:
        """The key that takes over, for a rotation.

        Raises:
            MalformedEvidenceError: it is no key to sign with.
        """
        if "new" not in self.fields:
            return None
        new = self.fields["new"]
        spki = [
            records.unb64(new[name], f"rotation.new.{name}") for name in ("spki", "second") if name in new
        ]
        try:
            return PublicKey.from_der(*spki)
        except KeyFileError as error:
            raise MalformedEvidenceError(f"rotation.new: {error.message}", error.remedy) from None

    @property
    def effective(self) -> str:
        """When the target ends, RFC 3339 in UTC."""
        return str(self.fields["effectiveAt"])

    @classmethod
    def load(cls, path: str | Path) -> Statement:
        """Read a file, and the timestamp beside it.

        Raises:
            EvidenceError: it cannot be read, or is neither a revocation nor a rotation.
        """
        return cls(*read_stamped(Path(path)))

    def save(self, path: str | Path) -> Path:
        """Write the signed file, and its timestamp beside it.

        Args:
            path: a name that ends in .dsse.json.

        Raises:
            InputError: another ending, or a file exists already.
        """
        if not str(path).endswith(SUFFIX):
            raise InputError(f"path: {path} does not end in {SUFFIX}", f"call it NAME{SUFFIX}")
        return write_stamped(Path(path), self.envelope, self.token)

    def signed_by(self, key: PublicKey | None) -> bool:
        """Whether a key signed it, and its second key too if it has one."""
        try:
            return key is not None and bool(dsse.verify(self.envelope, [key]).signers)
        except SignatureError:
            return False


def load_statements(paths: Iterable[str | Path]) -> list[Statement]:
    """Read statements from files, and from all files NAME.dsse.json in folders.

    Raises:
        EvidenceError: a file cannot be read, is neither a revocation nor a rotation, or there are too many.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if len(files) > MAX_STATEMENTS:
        raise EvidenceError(
            f"revocations: {len(files)} files, at most {MAX_STATEMENTS} are read", "sort them"
        )
    return [Statement.load(file) for file in files]


def revoke(
    signer: Owner,
    target: str,
    reason: str,
    *,
    effective: str | None = None,
    tsa: TimestampAuthority | None = None,
) -> Statement:
    """State that a key, or one record, no longer counts.

    Args:
        signer: whose key it is or who signed the record; or the recovery key of either.
        target: a key id ("sha256:" and 64 hexadecimal digits), or a record id (64 digits).
        reason: in words.
        effective: from when on, such as "2026-11-21T06:50:00Z"; by default now. If nobody knows since when a
            key has been in other hands, choose a time before that.
        tsa: stamps the statement.

    Raises:
        InputError: an argument breaks the format.
        TimestampError: the authority gave no good timestamp.
    """
    fields = {"target": target, "reason": reason, "effectiveAt": effective or records.utc_now()}
    return _signed(records.REVOCATION_TYPE, target, fields, [signer], tsa)


def rotate(
    signer: Owner,
    new: Owner,
    reason: str,
    *,
    old: PublicKey | None = None,
    effective: str | None = None,
    tsa: TimestampAuthority | None = None,
) -> Statement:
    """Hand a key over to its successor; the old one ends.

    Args:
        signer: the old key, or its recovery key.
        new: the successor, who signs as well.
        reason: in words.
        old: the old key, where `signer` is its recovery key.
        effective: from when on the old key no longer counts; by default now. Stamp what it signed.
        tsa: stamps the statement.

    Raises:
        InputError: an argument breaks the format.
        TimestampError: the authority gave no good timestamp.
    """
    ended = (old or signer.public).keyid
    if new.keyid == ended:
        raise InputError("new: is the old key", "make a new one with Owner.create")
    second = {"second": records.b64(new.public.second.der)} if new.public.second else {}
    successor = {"keyid": new.keyid, "alg": new.public.alg, "spki": records.b64(new.public_key), **second}
    fields = {"old": ended, "new": successor, "reason": reason, "effectiveAt": effective or records.utc_now()}
    return _signed(records.ROTATION_TYPE, ended, fields, [signer, new], tsa)


def _signed(
    kind: str,
    target: str,
    fields: Mapping[str, Any],
    signers: Sequence[Owner],
    tsa: TimestampAuthority | None,
) -> Statement:
    predicate = {"schema": "1.0", "recordId": records.ulid(), **fields}
    try:
        payload = records.build_statement({"target": target.removeprefix("sha256:")}, kind, predicate)
    except MalformedEvidenceError as error:
        raise InputError(error.message, "see the arguments of revoke and rotate") from None
    envelope = dsse.sign(payload, *signers)
    return Statement(envelope, tsa.stamp(dsse.token_message(envelope)) if tsa else b"")


@dataclass(frozen=True)
class History:
    """Which keys count, and until when; make it with `of`.

    Attributes:
        trust: the reader's keys, and those they were handed over to.
        ends: when a key ended, RFC 3339 by key id.
        heirs: the successor of a key, by key id.
        recovery: recovery keys, by the key id they stand for.
        statements: all that were given.
    """

    trust: tuple[PublicKey, ...]
    ends: Mapping[str, str]
    heirs: Mapping[str, PublicKey]
    recovery: Mapping[str, PublicKey]
    statements: tuple[Statement, ...]

    @classmethod
    def of(
        cls,
        statements: Iterable[Statement],
        trust: Sequence[PublicKey],
        roots: Roots = (),
        recovery: Mapping[str, PublicKey] | None = None,
    ) -> History:
        """Work out what statements leave of a reader's trust.

        A key is ended by itself or by its recovery key, and handed over by either together with the new key.
        A hand-over by the recovery key overrules others. Statements about strangers' keys are passed over.

        Args:
            statements: from the bundle, and from wherever else the reader gets them.
            trust: the reader's keys.
            roots: of the timestamp authorities the reader trusts.
            recovery: recovery keys, by the key id they stand for.

        Raises:
            SignatureError: a statement about one of these keys is not signed by those who may make it.
            TimestampError: the timestamp of such a statement does not verify.
            EvidenceError: a key was handed over to two others.
        """
        statements, recovery = tuple(statements), recovery or {}
        named = [one.successor for one in statements if one.successor]
        known = {key.keyid: key for key in (*named, *trust)}
        revoked: dict[str, str] = {}
        for one in statements:
            if not one.successor and one.target in known:
                _check_entitled(one, known[one.target], recovery)
                revoked[one.target] = min(one.effective, revoked.get(one.target, one.effective))
        ends, heirs, recovered = dict(revoked), dict[str, PublicKey](), set[str]()
        trusted = {key.keyid: key for key in trust}
        rotations = [one for one in statements if one.successor]
        rotations.sort(key=lambda one: not one.signed_by(recovery.get(one.target)))
        while found := next((one for one in rotations if one.target in trusted), None):
            rotations.remove(found)
            old, new = found.target, found.successor
            assert new is not None
            _check_entitled(found, trusted[old], recovery)
            stamp = verify_stamped(found.envelope, found.token, roots)
            if found.signed_by(recovery.get(old)):
                recovered.add(old)
            elif old in recovered or not _before(stamp, revoked.get(old)):
                continue  # by whoever had the key after it was revoked or recovered
            if heirs.setdefault(old, new) != new:
                raise EvidenceError(f"rotation of {old}: to two keys", "ask its owner which of them holds")
            ends[old] = min(found.effective, ends.get(old, found.effective))
            trusted.setdefault(new.keyid, new)
        return cls(tuple(trusted.values()), ends, heirs, recovery, statements)

    def check(self, what: str, signer: PublicKey, record_id: str, stamp: Timestamp | None) -> None:
        """Check that a record was made before its signer's key, or the record itself, ended.

        Raises:
            RevokedError: it was not, or no timestamp shows that it was.
            SignatureError: a revocation of the record is not signed by those who may make it.
        """
        ended = [("the key that signed it", self.ends.get(signer.keyid))]
        for one in self.statements:
            if one.target == record_id:
                _check_entitled(one, signer, self.recovery)
                ended.append(("it", one.effective))
        for which, end in ended:
            if not _before(stamp, end):
                made = f"is of {stamp}" if stamp else "has no timestamp"
                raise RevokedError(
                    f"{what}: {made}, and {which} was revoked from {end} on",
                    "ask its owner for a record by the key that holds now",
                )

    def party(self, key: PublicKey) -> tuple[PublicKey, ...]:
        """Return a key with all its successors: one and the same person."""
        keys = [key]
        while (heir := self.heirs.get(keys[-1].keyid)) and heir not in keys:
            keys.append(heir)
        return tuple(keys)


def load_trusted(
    path: Path, trust: Sequence[PublicKey], roots: Roots, statements: Sequence[Statement]
) -> tuple[Registration, History]:
    """Read a registration by a key the reader trusts, or by one that such a key was handed over to.

    Raises:
        SignatureError: it is by another key, or as `History.of`.
        RevokedError: it was not made before its key, or itself, ended.
        EvidenceError: as `Registration.load` and `History.of`.
    """
    named = [one.successor for one in statements if one.successor]
    registration = Registration.load(path, [*trust, *named] if trust else trust, roots)
    recovery = {registration.owner.keyid: registration.recovery} if registration.recovery else {}
    history = History.of(statements, trust, roots, recovery)
    if registration.owner not in history.trust:
        raise SignatureError(
            f"registration: signed by {registration.owner.keyid}, which you do not trust",
            "ask its owner for the public key by a safe way, or do not believe the record",
        )
    history.check("registration", registration.owner, registration.record_id, registration.stamped)
    return registration, history


def _before(stamp: Timestamp | None, end: str | None) -> bool:
    return end is None or (stamp is not None and str(stamp) < end)


def _check_entitled(statement: Statement, signer: PublicKey, recovery: Mapping[str, PublicKey]) -> None:
    entitled = statement.signed_by(signer) or statement.signed_by(recovery.get(signer.keyid))
    if not entitled or not (statement.successor is None or statement.signed_by(statement.successor)):
        raise SignatureError(
            f"statement on {statement.target}: not signed by those who may make it",
            "leave it out, and ask who put it there",
        )
