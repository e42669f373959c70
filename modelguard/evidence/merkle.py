"""The tree that commits to all leaf secrets at once (the shape of RFC 6962, section 2.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from modelguard.errors import EvidenceError


def leaf(index: int, secret_k: bytes, secret_b: bytes) -> bytes:
    """Hash a leaf: SHA256(00 || label || u32 index || SHA256("K" || x_K) || SHA256("b" || x_b)).

    The two secrets are hashed apart, so that one can be shown while the other stays hidden.
    """
    return leaf_with_hidden_bits(index, secret_k, hide_bits(secret_b))


def hide_bits(secret_b: bytes) -> bytes:
    """Return what stands for x_b while it is not opened: SHA256("b" || x_b)."""
    return hashlib.sha256(b"b" + secret_b).digest()


def leaf_with_hidden_bits(index: int, secret_k: bytes, digest_b: bytes) -> bytes:
    """Hash a leaf of which x_K is open and x_b is not."""
    digest_k = hashlib.sha256(b"K" + secret_k).digest()
    return hashlib.sha256(
        b"\x00modelguard/v1/leaf\x00" + index.to_bytes(4, "big") + digest_k + digest_b
    ).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1  # the largest power of two below count


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over one or more leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    half = _split(len(leaves))
    return _node(root(leaves[:half]), root(leaves[half:]))


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the sibling hashes from leaf `index` up to the root."""
    if len(leaves) == 1:
        return []
    half = _split(len(leaves))
    if index < half:
        return [*path(leaves[:half], index), root(leaves[half:])]
    return [*path(leaves[half:], index - half), root(leaves[:half])]


def verify(leaf_hash: bytes, index: int, count: int, siblings: Sequence[bytes], expected_root: bytes) -> None:
    """Check that a leaf hash stands at `index` among `count` leaves under a root.

    Raises:
        EvidenceError: it does not.
    """
    right = []  # for each level from the top: does the leaf lie on the right?
    position, size = index, count
    while size > 1:
        half = _split(size)
        right.append(position >= half)
        position, size = (position - half, size - half) if position >= half else (position, half)
    value = leaf_hash
    if len(siblings) == len(right) and 0 <= index < count:
        for sibling, is_right in zip(siblings, reversed(right), strict=True):
            value = _node(sibling, value) if is_right else _node(value, sibling)
        if value == expected_root:
            return
    raise EvidenceError(
        f"opening of leaf {index}: not under the committed root", "these secrets were not registered"
    )
