from __future__ import annotations

import hashlib
import hmac

import pytest

from modelguard.errors import InputError
from modelguard.evidence import prf


def test_stream_formula():
    message = b"modelguard/v1/K\x00" + b"\x00\x04salt" + b"secret"
    assert prf.stream("K", b"salt", b"secret", 100) == hashlib.shake_256(message).digest(100)
    # pinned: a change here would orphan every registered key
    assert prf.stream("b", b"", b"\x00" * 32, 16).hex() == "d127e219d212d1374ef9c7a2c5a8be07"


def test_leaf_secrets_are_hkdf_sha256():
    master = bytes(range(32))
    pseudo = hmac.digest(b"\x00" * 32, master, "sha256")
    info = b"modelguard/v1/leaf-secrets\x00\x00\x00\x00\x05"
    first = hmac.digest(pseudo, info + b"\x01", "sha256")
    second = hmac.digest(pseudo, first + info + b"\x02", "sha256")
    assert prf.leaf_secrets(master, 5) == (first, second)
    assert first.hex() == "ac2912428cebfa0494efe60d1a73302624fe9586f71e5014a8744ac3e87f0219"


def test_scrypt_salt():
    expected = hashlib.scrypt(b"message", salt=b"modelguard/v1/salt\x00", n=16, r=8, p=1, dklen=32)
    assert prf.salt_from_scrypt(b"message", 4) == expected
    assert prf.salt_from_scrypt(b"message", 5) != expected


@pytest.mark.parametrize("log2_n", [0, 21, -1])
def test_scrypt_cost_is_bounded(log2_n):
    with pytest.raises(InputError, match="log2_n"):
        prf.salt_from_scrypt(b"message", log2_n)
