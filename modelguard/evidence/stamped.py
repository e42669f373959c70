"""A signed file NAME.dsse.json and the timestamp beside it, NAME.tsr."""

from __future__ import annotations

import os
from pathlib import Path

from modelguard._files import atomic_write_bytes
from modelguard.evidence import dsse, records
from modelguard.evidence.blobs import read_bounded
from modelguard.evidence.timestamps import MAX_TOKEN_BYTES, Roots, Timestamp, verify

SUFFIX, TOKEN_SUFFIX = ".dsse.json", ".tsr"
MAX_ENVELOPE_BYTES = 2 * records.MAX_JSON_BYTES


def token_path(path: Path) -> Path:
    """Return where the timestamp of a signed file lies."""
    return path.with_name(path.name.removesuffix(SUFFIX) + TOKEN_SUFFIX)


def read_stamped(path: Path) -> tuple[bytes, bytes]:
    """Read a signed file and its timestamp; the latter is empty if there is none.

    Raises:
        EvidenceError: no such file, a link, or too large.
    """
    return read_bounded(path, MAX_ENVELOPE_BYTES), read_token(token_path(path))


def read_token(path: Path) -> bytes:
    """Read a timestamp; empty if there is none.

    Raises:
        EvidenceError: a link, or too large.
    """
    return read_bounded(path, MAX_TOKEN_BYTES) if os.path.lexists(path) else b""


def write_stamped(path: Path, envelope: bytes, token: bytes = b"") -> Path:
    """Write a signed file, and its timestamp beside it if there is one.

    Raises:
        InputError: a file exists already.
    """
    if token:  # first: a timestamp without its file claims nothing
        atomic_write_bytes(token_path(path), token)
    return atomic_write_bytes(path, envelope)


def verify_stamped(envelope: bytes, token: bytes, roots: Roots) -> Timestamp | None:
    """Verify the timestamp of a signed file; None if there is none.

    Raises:
        TimestampError: it does not verify.
        InputError: there is one, and no root.
    """
    return verify(token, dsse.token_message(envelope), roots) if token else None
