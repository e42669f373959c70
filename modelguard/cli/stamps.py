"""Timestamps and revocations on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelguard.errors import InputError

if TYPE_CHECKING:
    from modelguard.evidence import TimestampAuthority

TSA_HELP = "RFC 3161 timestamp authority to ask; takes --tsa-root too."
TSA_ROOT_HELP = "Root certificate (PEM) of a timestamp authority you trust; repeat it for several."
REVOCATION_HELP = (
    "File, or folder of files, with revocations and rotations you know of; repeat it for several."
)


def authority(url: str | None, roots: Sequence[Path] | None) -> TimestampAuthority | None:
    """Return the timestamp authority that --tsa and --tsa-root name; None without --tsa.

    Raises:
        InputError: --tsa without --tsa-root, no such URL, or a file without certificates.
    """
    from modelguard.evidence import TimestampAuthority

    if url is None:
        return None
    if not roots:
        raise InputError(
            "tsa-root: missing, so no answer of --tsa could be verified",
            "pass the root certificate (PEM) that the authority publishes",
        )
    return TimestampAuthority(url, roots)
