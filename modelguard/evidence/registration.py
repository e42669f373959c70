"""The public statement that this owner committed to this key for these weight files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from modelguard.errors import EvidenceError, InputError, KeyFileError
from modelguard.evidence import dsse, prf, records, timestamps
from modelguard.evidence.key import NO_REFERENCE, Decoder, Key, Scheme, precommit, reference_record
from modelguard.evidence.owner import Owner, PublicKey
from modelguard.evidence.stamped import read_stamped, verify_stamped, write_stamped
from modelguard.evidence.timestamps import Roots, Timestamp, TimestampAuthority, check_order
from modelguard.statistics import grind_bits


@dataclass(frozen=True)
class Registration:
    """A verified registration; public, it holds no secret.

    Attributes:
        envelope: the signed file.
        record_id: its identity, 64 hexadecimal digits.
        owner: the key that signed it.
        fields: the record itself, as checked.
        token: the timestamp of the signed file, as its authority gave it; empty without.
        committed: the verified timestamp that salted the key; None if another source did, or without roots.
        stamped: the verified timestamp of the signed file; None without one, or without roots.
    """

    envelope: bytes = field(repr=False)
    record_id: str
    owner: PublicKey
    fields: Mapping[str, Any] = field(repr=False)
    token: bytes = field(default=b"", repr=False)
    committed: Timestamp | None = field(default=None, compare=False)
    stamped: Timestamp | None = field(default=None, compare=False)

    @classmethod
    def from_envelope(
        cls, envelope: bytes, trust: Sequence[PublicKey], token: bytes = b"", roots: Roots = ()
    ) -> Registration:
        """Verify a registration against keys the caller trusts.

        Args:
            envelope: the signed file.
            trust: public keys, from a source other than the registration.
            token: the timestamp of the signed file, if it has one.
            roots: of the timestamp authorities the caller trusts; without any, timestamps are not looked at.

        Raises:
            SignatureError: no trusted key signed it.
            MalformedEvidenceError: it breaks the format.
            TimestampError: a timestamp does not verify, or its own is earlier than that of the commitment.
            EvidenceError: it contradicts itself: another owner than the signer, another root than its files.
        """
        verified = dsse.verify(envelope, trust)
        subject, fields = records.parse_statement(verified.payload, records.REGISTRATION_TYPE)
        claimed = fields["owner"]
        try:
            owner = PublicKey.from_der(records.unb64(claimed["spki"], "owner.spki"))
            recovery = _recovery(claimed)
        except KeyFileError as error:
            raise EvidenceError(f"owner.spki: {error.message}", error.remedy) from None
        manifest, watermark, policy = fields["model"]["manifest"], fields["watermark"], fields["policy"]
        files, reference = manifest["files"], watermark["reference"]
        names = [file["name"] for file in files]
        source = watermark["keyCommitment"]["saltSource"]
        has_token = "precommitTst" in watermark["keyCommitment"]
        digests = {file["name"]: file["sha256"] for file in files}
        for where, holds in (
            ("owner.keyid: not the key in owner.spki", claimed["keyid"] == owner.keyid),
            ("owner.alg: not that of owner.spki", claimed["alg"] == owner.alg),
            ("owner.recovery: the owner's own key", recovery != owner),
            ("owner: did not sign the record", owner in verified.signers),
            ("manifest.files: not in order of their names", names == sorted(digests, key=_by_parts)),
            ("subject: not the files of the manifest", subject == digests),
            ("manifest.root: not the root of its files", manifest["root"] == _manifest_root(files)),
            ("reference: not as written", reference["id"] == "model" or reference == NO_REFERENCE),
            ("precommitTst: not as saltSource says", has_token == (source == "tst-signature/1")),
            (f"policy.grindBits: too few for {source}", policy["grindBits"] >= grind_bits(source)),
        ):
            if not holds:
                raise EvidenceError(f"registration.{where}", "ask its owner for a valid record")
        signer = verified.signers[verified.signers.index(owner)]  # with the second key the caller trusts
        return cls(envelope, verified.record_id, signer, fields, token)._timed(roots)

    @classmethod
    def load(cls, path: str | Path, trust: Sequence[PublicKey], roots: Roots = ()) -> Registration:
        """Read and verify a registration file with the timestamp beside it; raises as `from_envelope`."""
        envelope, token = read_stamped(Path(path))
        return cls.from_envelope(envelope, trust, token, roots)

    def save(self, path: str | Path) -> Path:
        """Write the signed file, and beside it its timestamp if it has one.

        Raises:
            InputError: a file exists already.
        """
        return write_stamped(Path(path), self.envelope, self.token)

    def stamp(self, tsa: TimestampAuthority) -> Registration:
        """Return the same registration with a timestamp.

        Raises:
            TimestampError: the authority gave none, or one earlier than that of the commitment.
        """
        token = tsa.stamp(dsse.token_message(self.envelope))
        return replace(self, token=token)._timed(tsa.roots)

    @property
    def owner_name(self) -> str:
        """The owner's name as the owner wrote it; only the key is proven."""
        return str(self.fields["owner"]["name"])

    @property
    def recovery(self) -> PublicKey | None:
        """The key that may revoke or replace the owner's, if one was named."""
        return _recovery(self.fields["owner"])

    @property
    def scheme(self) -> Scheme:
        """The scheme's public parameters."""
        scheme: Scheme = self.fields["watermark"]["scheme"]
        return scheme

    @property
    def decoder(self) -> Decoder:
        """The decoder the key was made for; a verifier must decode with this one and no other."""
        return Decoder(**self.fields["watermark"]["decoder"])

    @property
    def leaves(self) -> int:
        """Number of committed leaves."""
        return int(self.fields["watermark"]["keyCommitment"]["leaves"])

    @property
    def root(self) -> bytes:
        """The Merkle root over the leaves."""
        return bytes.fromhex(self.fields["watermark"]["keyCommitment"]["root"])

    @property
    def alpha(self) -> Decimal:
        """The adjusted significance level of a match, at most 1e-6."""
        return Decimal(self.fields["policy"]["alpha"])

    @property
    def grind_bits(self) -> int:
        """log2 of the keys the owner could have tried before committing."""
        return int(self.fields["policy"]["grindBits"])

    @property
    def precommit(self) -> bytes:
        """The message that fixed the key before its salt was known."""
        reference = self.fields["watermark"]["reference"]["sha256"]
        return precommit(self.root, self.leaves, self.owner.der, self.decoder, reference, self.scheme)

    def _timed(self, roots: Roots) -> Registration:
        if not roots:
            return self
        committed, token = None, self._commitment_token
        if token is not None:
            committed = timestamps.verify(records.unb64(token, "precommitTst"), self.precommit, roots)
        stamped = verify_stamped(self.envelope, self.token, roots)
        check_order(("key", committed), ("registration", stamped))
        return replace(self, committed=committed, stamped=stamped)

    @property
    def _commitment_token(self) -> str | None:
        token: str | None = self.fields["watermark"]["keyCommitment"].get("precommitTst")
        return token

    def salt(self) -> bytes:
        """Derive the key's salt from the commitment; as slow as its salt source demands.

        Raises:
            InputError: a timestamp gave it, and the registration was loaded without roots to verify it by.
        """
        if self.committed is not None:
            return self.committed.salt
        if self._commitment_token is not None:
            raise timestamps.no_roots()
        source = self.fields["watermark"]["keyCommitment"]["saltSource"]
        return prf.salt_from_scrypt(self.precommit, int(source.removeprefix("scrypt/")))


def register(
    owner: Owner,
    key: Key,
    model_files: Sequence[tuple[str, str | Path]],
    model_info: Mapping[str, str],
    policy: Mapping[str, Any] | None = None,
    validity: Mapping[str, str] | None = None,
) -> Registration:
    """Sign the registration of a marked model; publish it before the model.

    Args:
        owner: the owner the key was made for.
        key: the secret key; only its commitment enters the record.
        model_files: (name in the record, path) of every weight file; names are relative POSIX.
        model_info: "name", "version", "task", "input" and "output" in words.
        policy: {"test", "alpha", "grindBits"}; default the exact sign test at 1e-6 with the grinding the
            key's salt source allows.
        validity: {"notBefore", "notAfter"}; default ten years from now.

    Raises:
        InputError: the key is another owner's, a file cannot be read, or a field is missing or wrong.
    """
    if key.owner != owner.public_key:
        raise InputError(f"key: was made for another owner than {owner.name!r}", "load that owner")
    files = [
        _file_record(name, Path(path))
        for name, path in sorted(model_files, key=lambda file: _by_parts(file[0]))
    ]
    default_policy = {
        "test": "weighted-sign-exact/1",
        "alpha": "1e-6",
        "grindBits": grind_bits(key.salt_source),
    }
    predicate = {
        "schema": "1.0",
        "recordId": records.ulid(),
        "owner": {
            "name": owner.name,
            "keyid": owner.keyid,
            "alg": owner.public.alg,
            "spki": records.b64(owner.public_key),
            **({"recovery": records.b64(owner.recovery.der)} if owner.recovery else {}),
        },
        "model": {
            **model_info,
            "manifest": {
                "method": "openssf-model-signing/v1.0 root",
                "hash": "sha256",
                "root": _manifest_root(files),
                "files": files,
            },
        },
        "watermark": {
            "scheme": dict(key.scheme),
            "decoder": key.decoder._asdict(),
            "reference": reference_record(key.reference),
            "keyCommitment": key.commitment,
        },
        "policy": dict(policy or default_policy),
        "validity": dict(validity or records.validity(10)),
    }
    subject = {file["name"]: file["sha256"] for file in files}
    try:
        payload = records.build_statement(subject, records.REGISTRATION_TYPE, predicate)
        return Registration.from_envelope(dsse.sign(payload, owner), [owner.public])
    except EvidenceError as error:
        raise InputError(error.message, "see the arguments of register") from error


def _recovery(owner: Mapping[str, str]) -> PublicKey | None:
    if "recovery" not in owner:
        return None
    return PublicKey.from_der(records.unb64(owner["recovery"], "owner.recovery"))


def _file_record(name: str, path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"name": name, "sha256": digest, "size": file.tell()}
    except OSError as error:
        raise InputError(f"model_files: cannot read {path} ({error.strerror})", "check the path") from error


def _by_parts(name: str) -> list[str]:
    return name.split("/")  # model-signing orders paths by their parts: "a/b" before "a.b"


def _manifest_root(files: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(file["sha256"]) for file in files)).hexdigest()
