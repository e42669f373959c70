"""Who signs: an owner's (or examiner's) private key, and the public keys a reader trusts.

A key is Ed25519 or ECDSA P-256. It may have a second one beside it, ML-DSA-65 (FIPS 204), for evidence that
shall hold when quantum computers forge the first kind; whoever trusts such a pair demands both signatures.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from cryptography import __version__ as cryptography_version
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError, KeyFileError, MalformedEvidenceError, SignatureError
from modelguard.evidence import records
from modelguard.evidence.sealed import SealedFile, seal

try:  # cryptography 48 or newer, built on a library that has it
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
except ImportError:  # pragma: no cover
    MLDSA65PrivateKey = MLDSA65PublicKey = None  # type: ignore[assignment, misc]

Algorithm = Literal["ed25519", "ecdsa-p256"]
ML_DSA = "ml-dsa-65"

_P = 2**255 - 19
_Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# the y of every point whose order divides 8: under such a key one signature fits many messages
_LOW_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})

_SECRET = records.table(
    name=records.text,
    pkcs8=records.base64_text,
    optional={"second": records.base64_text, "recovery": records.base64_text},
)
_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True)
class PublicKey:
    """A public key as DER SubjectPublicKeyInfo; make it with `from_der` or `load`.

    Attributes:
        der: the SubjectPublicKeyInfo. Keys are equal if these are.
        second: the ML-DSA key whose signature is demanded as well, if there is one.
    """

    der: bytes
    second: PublicKey | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        try:
            key = serialization.load_der_public_key(self.der)
        except UnsupportedAlgorithm:
            raise KeyFileError(
                f"public key: of an algorithm that cryptography {cryptography_version} does not know",
                "for ML-DSA, install cryptography 48 or newer",
            ) from None
        except ValueError:
            key = None
        alg = _algorithm(key)
        if alg is None or _der(key) != self.der:
            raise KeyFileError(
                "public key: none that signs here", "use Ed25519 or ECDSA P-256, and ML-DSA-65 as the second"
            )
        if self.second and (alg == ML_DSA or self.second.alg != ML_DSA):
            raise KeyFileError(
                f"public key: {alg} and {self.second.alg} are no pair", "only ML-DSA-65 may come second"
            )
        if isinstance(key, Ed25519PublicKey):
            y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
            if y >= _P or y in _LOW_ORDER_Y:
                raise KeyFileError(
                    "public key: of low order, so its signatures prove nothing", "do not trust its owner"
                )

    @classmethod
    def from_der(cls, der: bytes, second: bytes | None = None) -> PublicKey:
        """Take DER SubjectPublicKeyInfo, of an ML-DSA key too if there is one.

        Raises:
            KeyFileError: of another algorithm, or of low order.
        """
        return cls(der, None if second is None else cls(second))

    @classmethod
    def load(cls, path: str | Path) -> PublicKey:
        """Read a PEM file as written by `Owner.save_public`.

        Raises:
            InputError: the file cannot be read.
            KeyFileError: not one key in PEM, or a key and its ML-DSA companion; or one of low order.
        """
        try:
            with Path(path).open("rb") as file:
                pem = file.read(1 << 16)
        except OSError as error:
            raise InputError(f"path: cannot read {path} ({error.strerror})", "check the path") from error
        blocks = _BLOCK.findall(pem)
        if not 1 <= len(blocks) <= 2 or len(blocks) != pem.count(b"-----BEGIN "):  # half a pair is no key
            raise KeyFileError(f"public key: {path} is no public key in PEM", "ask its owner for the file")
        try:
            return cls.from_der(*(_der(serialization.load_pem_public_key(block)) for block in blocks))
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError(
                f"public key: {path} is no public key in PEM that cryptography {cryptography_version} knows",
                "ask its owner for the file; for ML-DSA, install cryptography 48 or newer",
            ) from None

    @property
    def alg(self) -> str:
        """Its algorithm: "ed25519", "ecdsa-p256" or "ml-dsa-65"."""
        alg = _algorithm(serialization.load_der_public_key(self.der))
        assert alg is not None
        return alg

    @property
    def keyid(self) -> str:
        """The name of the key: "sha256:" and the digest of its SubjectPublicKeyInfo."""
        return "sha256:" + hashlib.sha256(self.der).hexdigest()

    @property
    def parts(self) -> tuple[PublicKey, ...]:
        """The keys that must all have signed: itself, and the second if there is one."""
        return (self,) if self.second is None else (self, self.second)

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a signature of this key, not of the second.

        Raises:
            SignatureError: this key did not make it over these data.
        """
        key: Any = serialization.load_der_public_key(self.der)
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
            else:
                key.verify(signature, data)
        except InvalidSignature:
            raise SignatureError(
                f"signature: not made by {self.keyid} over these bytes", "check what you trust"
            ) from None


class Owner:
    """A named signing key. Make one with `create`, open it with `load`.

    Args:
        name: the owner as records shall show it.
        key: an Ed25519 or ECDSA P-256 private key.
        second: an ML-DSA-65 private key that signs as well.
        recovery: the public key that may revoke or replace this one, should it be lost or stolen.
    """

    def __init__(
        self,
        name: str,
        key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
        second: MLDSA65PrivateKey | None = None,
        recovery: PublicKey | None = None,
    ) -> None:
        self.name = name
        self.recovery = recovery
        self._key = key
        self._second = second
        self._public = PublicKey.from_der(
            _der(key.public_key()), None if second is None else _der(second.public_key())
        )

    @classmethod
    def create(
        cls,
        path: str | Path,
        name: str,
        passphrase: str | None = None,
        *,
        alg: Algorithm = "ed25519",
        ml_dsa: bool = False,
        recovery: PublicKey | None = None,
    ) -> Owner:
        """Make a new key and write it, encrypted, to a file only its user may read.

        Args:
            path: a file that does not exist yet.
            name: the owner as records shall show it.
            passphrase: protects the file; None takes MODELGUARD_PASSPHRASE or asks.
            alg: "ed25519", or "ecdsa-p256" where hardware or other tools demand it.
            ml_dsa: make an ML-DSA-65 key too, which signs beside the first.
            recovery: public key of another owner file, kept offline, that may revoke or replace this key;
                every registration names it.

        Raises:
            InputError: the file exists, the name is empty or too long, there is no passphrase, or this
                `cryptography` has no ML-DSA.
        """
        try:
            records.text("name", name)
        except MalformedEvidenceError as error:
            raise InputError(error.message, "give a name of one line") from None
        if Path(path).exists():
            raise InputError(f"path: {path} exists already", "load it, or choose another name")
        if alg not in ("ed25519", "ecdsa-p256"):
            raise InputError(f"alg: {alg!r} is unknown", 'use "ed25519" or "ecdsa-p256"')
        key = Ed25519PrivateKey.generate() if alg == "ed25519" else ec.generate_private_key(ec.SECP256R1())
        owner = cls(name, key, _new_ml_dsa() if ml_dsa else None, recovery)
        fields = {"name": name, "pkcs8": _pkcs8(key)}
        if owner._second is not None:
            fields["second"] = _pkcs8(owner._second)
        if recovery is not None:
            fields["recovery"] = records.b64(recovery.der)
        atomic_write_bytes(path, seal(records.dumps(fields), passphrase, "owner"), mode=0o600)
        return owner

    @classmethod
    def load(cls, path: str | Path, passphrase: str | None = None) -> Owner:
        """Open a file made by `create`.

        Raises:
            InputError: the file cannot be read, or there is no passphrase.
            KeyFileError: the file is foreign, truncated or damaged.
            WrongPassphraseError: the passphrase does not open it.
        """
        file = SealedFile(path, passphrase, "owner")
        try:
            fields = records.loads(file.read())
            _SECRET("owner", fields)
            found: dict[str, Any] = {
                name: serialization.load_der_private_key(records.unb64(fields[name], name), None)
                for name in ("pkcs8", "second")
                if name in fields
            }
            recovery = (
                PublicKey.from_der(records.unb64(fields["recovery"], "")) if "recovery" in fields else None
            )
            owner = cls(fields["name"], found["pkcs8"], found.get("second"), recovery)
        except (MalformedEvidenceError, KeyFileError, ValueError, UnsupportedAlgorithm):
            raise KeyFileError(
                f"key file: {path} holds no signing key that cryptography {cryptography_version} knows",
                "restore it from a backup; for ML-DSA, install cryptography 48 or newer",
            ) from None
        file.warn_if_shared()
        return owner

    @property
    def public(self) -> PublicKey:
        """The public half, as readers put it on their list of trusted keys."""
        return self._public

    @property
    def public_key(self) -> bytes:
        """The public half as DER SubjectPublicKeyInfo, without the second key."""
        return self._public.der

    @property
    def keyid(self) -> str:
        """The name of the key: "sha256:" and the digest of its SubjectPublicKeyInfo."""
        return self._public.keyid

    def sign(self, data: bytes) -> bytes:
        """Sign by Ed25519 (RFC 8032) or ECDSA with SHA-256, without the second key."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def signatures(self, data: bytes) -> dict[str, bytes]:
        """Sign with every key, by key id."""
        made = {self.keyid: self.sign(data)}
        if self._second is not None and self._public.second is not None:
            made[self._public.second.keyid] = self._second.sign(data)
        return made

    def save_public(self, path: str | Path) -> Path:
        """Write the public key, and the second if there is one, as PEM for those who shall trust it.

        Raises:
            InputError: the file exists already.
        """
        keys = [serialization.load_der_public_key(part.der) for part in self._public.parts]
        pem = b"".join(
            key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            for key in keys
        )
        return atomic_write_bytes(path, pem)

    def __repr__(self) -> str:
        return f"Owner(name={self.name!r}, keyid={self.keyid!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Owner holds a private key and is not pickled; pass its file instead")


def _algorithm(key: object) -> str | None:
    if isinstance(key, Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ecdsa-p256"
    return ML_DSA if MLDSA65PublicKey is not None and isinstance(key, MLDSA65PublicKey) else None


def _new_ml_dsa() -> MLDSA65PrivateKey:
    try:
        return MLDSA65PrivateKey.generate()
    except (AttributeError, UnsupportedAlgorithm):
        raise InputError(
            f"ml_dsa: cryptography {cryptography_version} has no ML-DSA", "install cryptography 48 or newer"
        ) from None


def _der(key: Any) -> bytes:
    der: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der


def _pkcs8(key: Any) -> str:
    der: bytes = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return records.b64(der)
