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
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

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
    passphrase = resolve_passphrase(passphrase, confirm=True)
    salt, nonce = secrets.token_bytes(32), secrets.token_bytes(12)
    header = {"format": FORMAT, "kind": kind, "kdf": "scrypt", "log2n": log2_n, "r": 8, "p": 1}
    line = records.dumps({**header, "salt": salt.hex(), "nonce": nonce.hex()}) + b"\n"
    body = line + ChaCha20Poly1305(_key(passphrase, salt, log2_n)).encrypt(nonce, plaintext, line)
    return body + hashlib.sha256(body).digest()


def unseal(data: bytes, passphrase: str | None, kind: str) -> bytes:
    """Decrypt what `seal` made.

    Raises:
        KeyFileError: the data are foreign, truncated or damaged, or hold another kind of secret.
        WrongPassphraseError: the data are sound and the passphrase does not open them.
        InputError: no passphrase.
    """
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
    key = _key(resolve_passphrase(passphrase), bytes.fromhex(header["salt"]), header["log2n"])
    try:
        return ChaCha20Poly1305(key).decrypt(bytes.fromhex(header["nonce"]), body[start:], body[:start])
    except InvalidTag:
        raise WrongPassphraseError("passphrase: does not open this file", "try another") from None


def read_sealed(path: str | Path, passphrase: str | None, kind: str) -> bytes:
    """Read and decrypt a sealed file.

    Raises:
        InputError: the file cannot be read, or there is no passphrase.
        KeyFileError: as in `unseal`.
        WrongPassphraseError: as in `unseal`.
    """
    try:
        if Path(path).stat().st_size > MAX_SEALED_BYTES:
            raise KeyFileError(f"key file: {path} is larger than 1 GiB", "this is no modelguard file")
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"path: cannot read {path} ({error.strerror})", "check the path") from error
    return unseal(data, passphrase, kind)
