"""Where every secret comes from: HKDF for the leaves, SHAKE256 for what they grow into."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from modelguard.evidence.sealed import scrypt


def leaf_secrets(master: bytes, index: int) -> tuple[bytes, bytes]:
    """Derive x_K and x_b, 32 bytes each, of one leaf from the master secret (HKDF-SHA256, RFC 5869)."""
    info = b"modelguard/v1/leaf-secrets\x00" + index.to_bytes(4, "big")
    both = HKDF(algorithm=SHA256(), length=64, salt=None, info=info).derive(master)
    return both[:32], both[32:]


def stream(label: str, salt: bytes, secret: bytes, n: int) -> bytes:
    """Return SHAKE256("modelguard/v1/<label>" || 00 || u16 len(salt) || salt || secret), n bytes.

    Args:
        label: what the bytes are for: "K" (trigger), "C" (carriers), "b" (bits), or a scheme's own.
        salt: the key's salt, at most 65535 bytes.
        secret: x_K or x_b of a leaf.
        n: number of bytes.
    """
    prefix = b"modelguard/v1/" + label.encode() + b"\x00"
    return hashlib.shake_256(prefix + len(salt).to_bytes(2, "big") + salt + secret).digest(n)


def salt_from_scrypt(precommit: bytes, log2_n: int = 20) -> bytes:
    """Stretch the precommit message into a salt of 32 bytes.

    Without a timestamp an owner could try many masters against a model that is out already; the stretch makes
    every try cost 2^log2_n scrypt steps and 2^(log2_n + 10) bytes of memory (1 GiB at 20).

    Raises:
        InputError: log2_n is not from 1 to 20.
    """
    return scrypt(precommit, b"modelguard/v1/salt\x00", log2_n)


def salt_from_token(signature: bytes) -> bytes:
    """Return the salt of 32 bytes that a timestamp over the precommit message gives.

    Nobody can foretell an authority's signature, so every try costs a request to it.

    Args:
        signature: the part of the token's CMS signature value that cannot be altered, see `Timestamp`.
    """
    return hashlib.sha256(b"modelguard/v1/salt-token\x00" + signature).digest()
