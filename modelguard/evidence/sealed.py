"""A passphrase container for secrets.

Layout: one line of JSON (the header), the ChaCha20-Poly1305 ciphertext, then SHA-256 over both. The header is
authenticated as associated data. The plain digest at the end protects nothing: it tells a damaged file from a
wrong passphrase, and costs no key derivation.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import sys
import unicodedata
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError, KeyFileError, MalformedEvidenceError, WrongPassphraseError
from modelguard.evidence import records

FORMAT = "modelguard-sealed/1"
PASSPHRASE_VARIABLE = "MODELGUARD_PASSPHRASE"
MAX_SEALED_BYTES = 1 << 30

_HEADER = records.table(
    format=records.one_of(FORMAT),
    kind=records.text,
    kdf=records.one_of("scrypt"),
    log2n=records.integer(1, records.MAX_LOG2_N),  # capped: a foreign file must not eat the memory
    r=records.integer(8, 8),
    p=records.integer(1, 1),
    salt=records.digest,
    nonce=records.pattern("[0-9a-f]{24}", "24 hexadecimal digits"),
)


def scrypt(secret: bytes, salt: bytes, log2_n: int) -> bytes:
    """Derive 32 bytes by scrypt (RFC 7914) with r = 8 and p = 1; takes 2^(log2_n + 10) bytes of memory.

    Raises:
        InputError: log2_n is not from 1 to 20.
    """
    if not 1 <= log2_n <= records.MAX_LOG2_N:
        raise InputError(f"log2_n: {log2_n} is not from 1 to {records.MAX_LOG2_N}", "leave it at its default")
    memory = (1 << log2_n) * 1024 + (1 << 20)
    return hashlib.scrypt(secret, salt=salt, n=1 << log2_n, r=8, p=1, maxmem=memory, dklen=32)


def resolve_passphrase(passphrase: str | None, *, confirm: bool = False) -> str:
    """Find the passphrase: the argument, else MODELGUARD_PASSPHRASE, else a prompt on a terminal.

    Args:
        passphrase: the passphrase, or None to look further.
        confirm: at a prompt, ask twice (for a new file, where a slip would lock the owner out).

    Raises:
        InputError: there is none, it is empty, or the two answers differ.
    """
    if passphrase is None:
        passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase is None:
        if not sys.stdin.isatty():
            raise InputError(
                "passphrase: none given, and no terminal to ask on", f"set {PASSPHRASE_VARIABLE} or pass it"
            )
        passphrase = getpass.getpass("Passphrase: ")
        if confirm and getpass.getpass("Again: ") != passphrase:
            raise InputError("passphrase: the two answers differ", "try again")
    if not passphrase:
        raise InputError("passphrase: empty", "choose a passphrase of several words")
    return passphrase


def _key(passphrase: str, salt: bytes, log2_n: int) -> bytes:
    # NFC, because keyboards of different systems compose the same accented letter differently
    return scrypt(unicodedata.normalize("NFC", passphrase).encode(), salt, log2_n)


def seal(plaintext: bytes, passphrase: str | None, kind: str, *, log2_n: int = 17) -> bytes:
    """Encrypt a secret under a passphrase.

    Args:
        plaintext: the secret.
        passphrase: resolved as in `resolve_passphrase`.
        kind: what the secret is, such as "owner" or "key"; one kind never opens as another.
        log2_n: scrypt cost; 17 takes 128 MiB and about 0.3 s.

    Raises:
        InputError: no passphrase, or log2_n is not from 1 to 20.
    """
    passphrase, salt = resolve_passphrase(passphrase, confirm=True), secrets.token_bytes(32)
    header = {"format": FORMAT, "kind": kind, "kdf": "scrypt", "log2n": log2_n, "r": 8, "p": 1}
    return _encrypt(plaintext, {**header, "salt": salt.hex()}, _key(passphrase, salt, log2_n))


def _encrypt(plaintext: bytes, header: Mapping[str, Any], key: bytes) -> bytes:
    nonce = secrets.token_bytes(12)
    line = records.dumps({**header, "nonce": nonce.hex()}) + b"\n"
    body = line + ChaCha20Poly1305(key).encrypt(nonce, plaintext, line)
    return body + hashlib.sha256(body).digest()


def unseal(data: bytes, passphrase: str | None, kind: str) -> bytes:
    """Decrypt what `seal` made.

    Raises:
        KeyFileError: the data are foreign, truncated or damaged, or hold another kind of secret.
        WrongPassphraseError: the data are sound and the passphrase does not open them.
        InputError: no passphrase.
    """
    header, body, start = _split(data, kind)
    return _decrypt(header, body, start, _key_of(header, passphrase))


def _key_of(header: Mapping[str, Any], passphrase: str | None) -> bytes:
    return _key(resolve_passphrase(passphrase), bytes.fromhex(header["salt"]), header["log2n"])


def _decrypt(header: Mapping[str, Any], body: bytes, start: int, key: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(key).decrypt(bytes.fromhex(header["nonce"]), body[start:], body[:start])
    except InvalidTag:
        raise WrongPassphraseError("passphrase: does not open this file", "try another") from None


def _split(data: bytes, kind: str) -> tuple[dict[str, Any], bytes, int]:
    """Check a container without opening it; return its header, its body, and where the ciphertext starts."""
    line, newline, _ = data[:1024].partition(b"\n")
    try:
        header = records.loads(line)
        _HEADER("header", header)
    except MalformedEvidenceError:
        newline = b""
    if not newline:
        raise KeyFileError("key file: not a sealed modelguard file", "check the path, or restore a backup")
    body, checksum = data[:-32], data[-32:]
    start = len(line) + 1
    if len(body) < start + 16 or hashlib.sha256(body).digest() != checksum:
        raise KeyFileError("key file: truncated or damaged", "restore it from a backup")
    if header["kind"] != kind:
        raise KeyFileError(f"key file: holds {header['kind']!r}, not {kind!r}", "check the path")
    return header, body, start


class SealedFile:
    """A sealed file that was opened once, and can be read and written again without its passphrase.

    Args:
        path: the file.
        passphrase: resolved as in `resolve_passphrase`.
        kind: of the secret.

    Raises:
        InputError: the file cannot be read, or there is no passphrase.
        KeyFileError: as in `unseal`.
        WrongPassphraseError: as in `unseal`.
    """

    def __init__(self, path: str | Path, passphrase: str | None, kind: str) -> None:
        self.path = Path(path)
        self._kind = kind
        header, body, start = _split(self._bytes(), kind)
        self._key = _key_of(header, passphrase)
        _decrypt(header, body, start, self._key)

    def warn_if_shared(self) -> None:
        """Give a warning if other users of this machine may read the file."""
        if os.name == "posix" and self.path.stat().st_mode & 0o077:
            warnings.warn(f"{self.path}: other users can read it; chmod 600 {self.path}", stacklevel=2)

    def read(self) -> bytes:
        """Return the secret as it is in the file now; raises as the class."""
        header, body, start = _split(self._bytes(), self._kind)
        return _decrypt(header, body, start, self._key)

    def write(self, plaintext: bytes) -> None:
        """Replace the secret, under the same passphrase.

        Raises:
            InputError: the file cannot be read or written.
            KeyFileError: it was damaged meanwhile, or is under another passphrase now.
        """
        header, body, start = _split(self._bytes(), self._kind)
        _decrypt(header, body, start, self._key)
        atomic_write_bytes(self.path, _encrypt(plaintext, header, self._key), overwrite=True, mode=0o600)

    def _bytes(self) -> bytes:
        try:
            if self.path.stat().st_size > MAX_SEALED_BYTES:
                raise KeyFileError(
                    f"key file: {self.path} is larger than 1 GiB", "this is no modelguard file"
                )
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(f"path: cannot read {self.path} ({error.strerror})", "check the path") from error

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SealedFile holds a secret and is not pickled; pass its path instead")
