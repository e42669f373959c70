"""Who signs: an owner's (or examiner's) Ed25519 key, and the public keys a reader trusts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError, KeyFileError, MalformedEvidenceError, SignatureError
from modelguard.evidence import records
from modelguard.evidence.sealed import read_sealed, seal

_P = 2**255 - 19
_Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# the y of every point whose order divides 8: under such a key one signature fits many messages
_LOW_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})

_SECRET = records.table(name=records.text, pkcs8=records.base64_text)


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key as DER SubjectPublicKeyInfo; make it with `from_der` or `load`.

    Attributes:
        der: the 44 bytes of the SubjectPublicKeyInfo.
    """

    der: bytes

    def __post_init__(self) -> None:
        try:
            key = serialization.load_der_public_key(self.der)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey) or _der(key) != self.der:
            raise KeyFileError("public key: not an Ed25519 key", "modelguard signs with Ed25519 only")
        y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
        if y >= _P or y in _LOW_ORDER_Y:
            raise KeyFileError(
                "public key: of low order, so its signatures prove nothing", "do not trust its owner"
            )

    @classmethod
    def from_der(cls, der: bytes) -> PublicKey:
        """Take a DER SubjectPublicKeyInfo.

        Raises:
            KeyFileError: not an Ed25519 key, or one of low order.
        """
        return cls(der)

    @classmethod
    def load(cls, path: str | Path) -> PublicKey:
        """Read a PEM file as written by `Owner.save_public`.

        Raises:
            InputError: the file cannot be read.
            KeyFileError: not an Ed25519 key in PEM, or one of low order.
        """
        try:
            with Path(path).open("rb") as file:
                key = serialization.load_pem_public_key(file.read(1 << 16))
        except OSError as error:
            raise InputError(f"path: cannot read {path} ({error.strerror})", "check the path") from error
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError(
                f"public key: {path} is no public key in PEM", "ask its owner for the file"
            ) from None
        return cls(_der(key)) if isinstance(key, Ed25519PublicKey) else cls(b"")

    @property
    def keyid(self) -> str:
        """The name of the key: "sha256:" and the digest of its SubjectPublicKeyInfo."""
        return "sha256:" + hashlib.sha256(self.der).hexdigest()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a signature.

        Raises:
            SignatureError: this key did not make it over these data.
        """
        key = serialization.load_der_public_key(self.der)
        assert isinstance(key, Ed25519PublicKey)
        try:
            key.verify(signature, data)
        except InvalidSignature:
            raise SignatureError(
                f"signature: not made by {self.keyid} over these bytes", "check what you trust"
            ) from None


class Owner:
    """A named Ed25519 signing key. Make one with `create`, open it with `load`."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = name
        self._key = key
        self._public = PublicKey(_der(key.public_key()))

    @classmethod
    def create(cls, path: str | Path, name: str, passphrase: str | None = None) -> Owner:
        """Make a new key and write it, encrypted, to a file only its user may read.

        Args:
            path: a file that does not exist yet.
            name: the owner as records shall show it.
            passphrase: protects the file; None takes MODELGUARD_PASSPHRASE or asks.

        Raises:
            InputError: the file exists, the name is empty or too long, or there is no passphrase.
        """
        try:
            records.text("name", name)
        except MalformedEvidenceError as error:
            raise InputError(error.message, "give a name of one line") from None
        if Path(path).exists():
            raise InputError(f"path: {path} exists already", "load it, or choose another name")
        key = Ed25519PrivateKey.generate()
        pkcs8 = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        secret = records.dumps({"name": name, "pkcs8": records.b64(pkcs8)})
        atomic_write_bytes(path, seal(secret, passphrase, "owner"), mode=0o600)
        return cls(name, key)

    @classmethod
    def load(cls, path: str | Path, passphrase: str | None = None) -> Owner:
        """Open a file made by `create`.

        Raises:
            InputError: the file cannot be read, or there is no passphrase.
            KeyFileError: the file is foreign, truncated or damaged.
            WrongPassphraseError: the passphrase does not open it.
        """
        secret = read_sealed(path, passphrase, "owner")
        try:
            fields = records.loads(secret)
            _SECRET("owner", fields)
            key = serialization.load_der_private_key(records.unb64(fields["pkcs8"], "owner.pkcs8"), None)
        except (MalformedEvidenceError, ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"key file: {path} holds no Ed25519 key", "restore it from a backup")
        return cls(fields["name"], key)

    @property
    def public(self) -> PublicKey:
        """The public half, as readers put it on their list of trusted keys."""
        return self._public

    @property
    def public_key(self) -> bytes:
        """The public half as DER SubjectPublicKeyInfo."""
        return self._public.der

    @property
    def keyid(self) -> str:
        """The name of the key: "sha256:" and the digest of its SubjectPublicKeyInfo."""
        return self._public.keyid

    def sign(self, data: bytes) -> bytes:
        """Sign, by Ed25519 (RFC 8032)."""
        return self._key.sign(data)

    def save_public(self, path: str | Path) -> Path:
        """Write the public key as PEM, for those who shall trust it.

        Raises:
            InputError: the file exists already.
        """
        pem = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return atomic_write_bytes(path, pem)

    def __repr__(self) -> str:
        return f"Owner(name={self.name!r}, keyid={self.keyid!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Owner holds a private key and is not pickled; pass its file instead")


def _der(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
