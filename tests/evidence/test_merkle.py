from __future__ import annotations

import hashlib

import pytest

from modelguard.errors import EvidenceError
from modelguard.evidence import merkle

# inputs and roots of the Certificate Transparency reference test (RFC 6962)
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
HASHES = [hashlib.sha256(b"\x00" + bytes.fromhex(text)).digest() for text in INPUTS]


@pytest.mark.parametrize("count", range(1, 9))
def test_roots_of_rfc_6962(count):
    assert merkle.root(HASHES[:count]).hex() == ROOTS[count - 1]


def test_leaf_formula():
    inner = hashlib.sha256(b"K" + b"k" * 32).digest() + hashlib.sha256(b"b" + b"s" * 32).digest()
    message = b"\x00modelguard/v1/leaf\x00\x00\x00\x01\x02" + inner
    assert merkle.leaf(0x102, b"k" * 32, b"s" * 32) == hashlib.sha256(message).digest()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 13])
def test_paths_verify_at_their_place_only(count):
    leaves = [bytes([index]) * 32 for index in range(count)]
    root = merkle.root(leaves)
    for index in range(count):
        path = merkle.path(leaves, index)
        merkle.verify(leaves[index], index, count, path, root)
        wrong = [
            (leaves[index], (index + 1) % count, path, root) if count > 1 else (leaves[0], 1, path, root),
            (b"x" * 32, index, path, root),
            (leaves[index], index, [*path, root], root),
            (leaves[index], index, path, b"x" * 32),
        ]
        if path:
            wrong += [
                (leaves[index], index, path[:-1], root),
                (leaves[index], index, [b"x" * 32, *path[1:]], root),
            ]
        for leaf, place, siblings, top in wrong:
            with pytest.raises(EvidenceError, match="not under"):
                merkle.verify(leaf, place, count, siblings, top)
