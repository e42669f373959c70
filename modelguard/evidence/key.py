"""The owner's secret key: one master secret from which every leaf grows, and what it publicly commits to."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError, KeyFileError, MalformedEvidenceError
from modelguard.evidence import merkle, prf, records
from modelguard.evidence.owner import Owner, PublicKey
from modelguard.evidence.sealed import SealedFile, seal
from modelguard.evidence.timestamps import Roots, TimestampAuthority, parse_roots, verify

Scheme = Mapping[str, int | str]
"""Public parameters of a scheme: integers and strings, with an "id"."""

FORMAT = "modelguard-key/1"
NO_REFERENCE = {"id": "none", "sha256": hashlib.sha256(b"none").hexdigest()}


class Decoder(NamedTuple):
    """Which decoder turns responses into scores; fixed before the key exists.

    Attributes:
        id: its name and version, such as "mg.cell-correlation/1".
        sha256: digest of its definition (code or weights), 64 hexadecimal digits.
    """

    id: str
    sha256: str


def precommit(
    root: bytes, leaves: int, owner_spki: bytes, decoder: Decoder, reference_sha256: str, scheme: Scheme
) -> bytes:
    """Return the message that fixes everything a key's triggers and bits depend on, before its salt is known.

    The scheme's parameters are part of it: left out, an owner could vary them after the salt and try many
    triggers for the price of one.
    """
    parts = (
        owner_spki,
        decoder.id.encode() + b"\x00" + bytes.fromhex(decoder.sha256),
        bytes.fromhex(reference_sha256),
        records.dumps(dict(scheme)),
    )
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    return b"modelguard/v1/precommit\x00" + root + leaves.to_bytes(4, "big") + digests


def reference_record(reference: str) -> dict[str, str]:
    """Return the `watermark.reference` field of a reference model's digest, or of "none"."""
    return NO_REFERENCE if reference == "none" else {"id": "model", "sha256": reference}


def select(
    root: bytes, nonce: bytes, leaves: int, count: int, exclude: Collection[int] = ()
) -> tuple[int, ...]:
    """Select leaves by the rule hash-nonce/1, so that nobody picks those that look lucky.

    Args:
        root: the committed root.
        nonce: drawn fresh for the session.
        leaves: number n of committed leaves.
        count: number of leaves wanted.
        exclude: leaves opened before.

    Returns:
        The first `count` distinct SHA256(label || root || nonce || u32 counter) mod n outside `exclude`.

    Raises:
        InputError: fewer than `count` leaves are left.
    """
    left = leaves - len(set(exclude).intersection(range(leaves)))
    if not 1 <= count <= left:
        raise InputError(f"count: {count} leaves wanted, {left} unopened", "ask for fewer, or make a new key")
    used, chosen, counter = set(exclude), dict[int, None](), 0
    while len(chosen) < count:
        message = b"modelguard/v1/select\x00" + root + nonce + counter.to_bytes(4, "big")
        index = int.from_bytes(hashlib.sha256(message).digest(), "big") % leaves
        if index not in used:
            chosen[index] = None
        counter += 1
    return tuple(chosen)


_SECRET = records.table(
    format=records.one_of(FORMAT),
    scheme=records.scheme,
    master=records.digest,
    leaves=records.integer(1, records.MAX_LEAVES),
    salt=records.digest,
    saltSource=records.text,
    decoder=records.table(id=records.text, sha256=records.digest),
    reference=records.pattern("none|[0-9a-f]{64}", "a digest"),
    owner=records.base64_text,
    burnt=records.each(records.integer(0, records.MAX_LEAVES - 1), records.MAX_LEAVES, 0),
    created=records.moment,
    extras=records.each(records.table(name=records.text, size=records.integer()), 64, 0),
    optional={"precommitTst": records.base64_text, "tsaRoots": records.base64_text},
)


@dataclass(frozen=True, repr=False)
class Key:
    """A secret key; make it with `create`, open it with `load`.

    Attributes:
        scheme: the scheme's public parameters.
        master: 32 secret bytes; every leaf derives from them.
        leaves: number of committed leaves.
        salt: mixed into every trigger and bit.
        salt_source: where the salt comes from: "scrypt/20", say, or "tst-signature/1" for a timestamp.
        decoder: the decoder fixed with the key.
        reference: digest of the reference model whose response is subtracted, or "none".
        owner: the owner's public key as DER SubjectPublicKeyInfo.
        created: when, RFC 3339 in UTC.
        burnt: leaves that were sent to a suspect or published; they prove nothing twice.
        extras: secrets of the scheme by name (an extractor's weights, a clean model's digest).
        token: the timestamp over `precommit` that gave the salt; empty without.
        tsa_roots: PEM of the root certificates that its owner trusts for timestamps; empty without.
        file: where the key was loaded from; None for one that was not.
    """

    scheme: Scheme
    master: bytes
    leaves: int
    salt: bytes
    salt_source: str
    decoder: Decoder
    reference: str
    owner: bytes
    created: str
    burnt: frozenset[int] = frozenset()
    extras: Mapping[str, bytes] = field(default_factory=dict)
    token: bytes = b""
    tsa_roots: bytes = b""
    file: SealedFile | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheme", MappingProxyType(dict(self.scheme)))
        object.__setattr__(self, "extras", MappingProxyType(dict(self.extras)))

    @classmethod
    def create(
        cls,
        owner: Owner,
        scheme: Scheme,
        leaves: int,
        *,
        decoder: Decoder,
        reference: str = "none",
        log2_n: int = 20,
        tsa: TimestampAuthority | None = None,
    ) -> Key:
        """Make a fresh key.

        Args:
            owner: to whom the key is bound.
            scheme: integers and strings, with an "id".
            leaves: number of leaves to commit to, 1 to 65536.
            decoder: the decoder, fixed from here on.
            reference: sha256 of the reference model, or "none".
            log2_n: scrypt cost of the salt; 20 takes 1 GiB and a few seconds, and less weakens the evidence.
            tsa: salt the key with a timestamp of this authority instead, which spares most grinding bits.

        Raises:
            InputError: an argument is out of range.
            TimestampError: the authority gave no good timestamp.
        """
        try:
            records.scheme("scheme", dict(scheme))
            records.integer(1, records.MAX_LEAVES)("leaves", leaves)
            records.text("decoder.id", decoder.id)
            records.digest("decoder.sha256", decoder.sha256)
            records.pattern("none|[0-9a-f]{64}", "a sha256 in hexadecimal, or 'none'")("reference", reference)
        except MalformedEvidenceError as error:
            raise InputError(error.message, "see the arguments of Key.create") from None
        # The salt depends on the root and so on the master alone: the key is built first, then salted.
        unsalted = cls(
            scheme=scheme,
            master=secrets.token_bytes(32),
            leaves=leaves,
            salt=b"",
            salt_source="tst-signature/1" if tsa else f"scrypt/{log2_n}",
            decoder=decoder,
            reference=reference,
            owner=owner.public_key,
            created=records.utc_now(),
        )
        if tsa is None:
            return replace(unsalted, salt=prf.salt_from_scrypt(unsalted.precommit, log2_n))
        token = tsa.stamp(unsalted.precommit)
        salt = verify(token, unsalted.precommit, tsa.roots).salt
        return replace(unsalted, salt=salt, token=token, tsa_roots=tsa.pem)

    @classmethod
    def load(cls, path: str | Path, passphrase: str | None = None) -> Key:
        """Open a file made by `save`.

        Raises:
            InputError: the file cannot be read, or there is no passphrase.
            KeyFileError: the file is foreign, truncated or damaged.
            WrongPassphraseError: the passphrase does not open it.
        """
        file = SealedFile(path, passphrase, "key")
        key = cls._parse(file.read(), file)
        file.warn_if_shared()
        return key

    @classmethod
    def _parse(cls, secret: bytes, file: SealedFile) -> Key:
        path = file.path
        line, _, rest = secret.partition(b"\n")
        try:
            fields = records.loads(line)
            _SECRET("key", fields)
            owner = PublicKey.from_der(records.unb64(fields["owner"], "key.owner"))
            token = records.unb64(fields.get("precommitTst", ""), "key.precommitTst")
            roots = records.unb64(fields.get("tsaRoots", ""), "key.tsaRoots")
            if roots:
                parse_roots(roots)
        except (MalformedEvidenceError, ValueError):  # its message may quote a secret
            raise KeyFileError(f"key file: {path} holds no key of {FORMAT}", "update modelguard") from None
        if sum(extra["size"] for extra in fields["extras"]) != len(rest):
            raise KeyFileError(f"key file: {path}: extras of the wrong size", "restore it from a backup")
        extras = {}
        for extra in fields["extras"]:
            extras[extra["name"]], rest = rest[: extra["size"]], rest[extra["size"] :]
        return cls(
            scheme=fields["scheme"],
            master=bytes.fromhex(fields["master"]),
            leaves=fields["leaves"],
            salt=bytes.fromhex(fields["salt"]),
            salt_source=fields["saltSource"],
            decoder=Decoder(**fields["decoder"]),
            reference=fields["reference"],
            owner=owner.der,
            created=fields["created"],
            burnt=frozenset(fields["burnt"]),
            extras=extras,
            token=token,
            tsa_roots=roots,
            file=file,
        )

    def save(self, path: str | Path, passphrase: str | None = None, overwrite: bool = False) -> Path:
        """Write the key, encrypted, to a file only its user may read.

        Raises:
            InputError: the file exists and `overwrite` is false, or there is no passphrase.
        """
        if Path(path).exists() and not overwrite:
            raise InputError(f"path: {path} exists already", "choose another name, or pass overwrite=True")
        return atomic_write_bytes(
            path, seal(self._dump(), passphrase, "key"), overwrite=overwrite, mode=0o600
        )

    def _dump(self) -> bytes:
        fields: dict[str, Any] = {
            "format": FORMAT,
            "scheme": dict(self.scheme),
            "master": self.master.hex(),
            "leaves": self.leaves,
            "salt": self.salt.hex(),
            "saltSource": self.salt_source,
            "decoder": self.decoder._asdict(),
            "reference": self.reference,
            "owner": records.b64(self.owner),
            "burnt": sorted(self.burnt),
            "created": self.created,
            "extras": [{"name": name, "size": len(value)} for name, value in self.extras.items()],
        }
        if self.token:
            fields |= {"precommitTst": records.b64(self.token), "tsaRoots": records.b64(self.tsa_roots)}
        return records.dumps(fields) + b"\n" + b"".join(self.extras.values())

    @property
    def roots(self) -> Roots:
        """The root certificates its owner trusts for timestamps."""
        return parse_roots(self.tsa_roots) if self.tsa_roots else ()

    def leaf(self, index: int) -> tuple[bytes, bytes]:
        """Return the secrets (x_K, x_b) of a leaf, 32 bytes each.

        Raises:
            InputError: there is no such leaf.
        """
        if not 0 <= index < self.leaves:
            raise InputError(f"index: no leaf {index} among {self.leaves}", "count leaves from 0")
        return prf.leaf_secrets(self.master, index)

    def path(self, index: int) -> list[bytes]:
        """Return the Merkle path of a leaf, from its sibling up to the root."""
        return merkle.path(self._hashes, index)

    @cached_property
    def _hashes(self) -> list[bytes]:
        return [merkle.leaf(index, *self.leaf(index)) for index in range(self.leaves)]

    @cached_property
    def root(self) -> bytes:
        """The Merkle root over all leaves; public."""
        return merkle.root(self._hashes)

    @property
    def precommit(self) -> bytes:
        """The message that fixes the key before its salt is known; public, see `precommit` of this module."""
        digest = reference_record(self.reference)["sha256"]
        return precommit(self.root, self.leaves, self.owner, self.decoder, digest, self.scheme)

    @property
    def commitment(self) -> dict[str, Any]:
        """The public `watermark.keyCommitment` field of a registration."""
        stamp = {"precommitTst": records.b64(self.token)} if self.token else {}
        return {
            "alg": "merkle-sha256-rfc6962",
            "leaves": self.leaves,
            "root": self.root.hex(),
            "saltSource": self.salt_source,
            **stamp,
        }

    def burn_in_file(self, indices: Iterable[int]) -> None:
        """Mark leaves as used in the file the key was loaded from, if it was; nothing else in it changes.

        Raises:
            InputError: there is no such leaf, or the file is gone or cannot be written.
            KeyFileError: the file was damaged, or is of another key or under another passphrase now.
        """
        if self.file is None:
            return
        there = self._parse(self.file.read(), self.file)
        if there.master != self.master:
            raise KeyFileError(f"key file: {self.file.path} holds another key by now", "load it again")
        self.file.write(there.burn(indices)._dump())

    def burn(self, indices: Iterable[int]) -> Key:
        """Return the key with these leaves marked as used; save it over the old file.

        Raises:
            InputError: there is no such leaf.
        """
        burnt = self.burnt.union(indices)
        for index in burnt:
            self.leaf(index)
        return replace(self, burnt=burnt)

    def __repr__(self) -> str:
        return (
            f"Key(scheme={self.scheme['id']!r}, leaves={self.leaves}, burnt={len(self.burnt)}, "
            f"salt_source={self.salt_source!r}, root='{self.root.hex()[:16]}...')"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Key holds secrets and is not pickled; pass its file instead")
