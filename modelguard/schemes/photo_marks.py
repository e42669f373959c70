"""What all readers of ordinary photos share: public parameters, bits of a leaf, and what they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from modelguard.errors import InputError
from modelguard.evidence import stream
from modelguard.schemes.parameters import form_problem
from modelguard.schemes.planes import Pixels, fitted

NAMES = ("channels", "scale", "perSession", "levels")
LARGEST = 4
"""Scale of a model that enlarges."""
Public = Mapping[str, int | str]


def public(id: str, channels: int, scale: int, per_session: int, levels: int) -> dict[str, int | str]:
    """Return public parameters; raises InputError where a number is out of range."""
    numbers = (channels, scale, per_session, levels)
    scheme: dict[str, int | str] = {"id": id, **dict(zip(NAMES, numbers, strict=True))}
    channels_and_scale(scheme, id)
    return scheme


def channels_and_scale(scheme: Public, id: str) -> tuple[int, int]:
    """Return the two, once all parameters of the scheme `id` are checked."""
    if problem := _problem(scheme, id):
        raise InputError(f"scheme: {problem}", "use the parameters that `public` returns")
    return int(scheme["channels"]), int(scheme["scale"])


def signs(label: str, secret: bytes, salt: bytes, count: int) -> npt.NDArray[np.int8]:
    """Return `count` signs, -1 and +1, out of a secret stream."""
    packed = np.frombuffer(stream(label, salt, secret, -(-count // 8)), np.uint8)
    return (np.unpackbits(packed, count=count).astype(np.int8) * 2 - 1).astype(np.int8)


def check_session(scheme: Public, secrets: Sequence[bytes], query: Pixels, response: Pixels) -> None:
    """Raise InputError unless so many leaves can be read from such an answer to such a photo."""
    if not 1 <= len(secrets) <= int(scheme["perSession"]):
        raise InputError(
            f"secrets: {len(secrets)} leaves in one session", f"read 1 to {scheme['perSession']}"
        )
    if {query.shape[2:], response.shape[2:]} != {(scheme["channels"],)} or (
        fitted(query).shape != query.shape
    ):
        raise InputError(
            f"photo: query {query.shape}, response {response.shape}, not of {scheme['channels']} channels "
            "and fitting",
            "ask with photos as `fitted` returns them",
        )


def _problem(scheme: Public, id: str) -> str | None:
    if problem := form_problem(scheme, id, NAMES):
        return problem
    channels, scale, per_session, levels = (int(scheme[name]) for name in NAMES)
    if channels not in (1, 3):
        return f"{channels} channels, not 1 or 3"
    if not 1 <= scale <= LARGEST:
        return f"scale {scale}, not 1 to {LARGEST}"
    if not 1 <= per_session <= 16:
        return f"{per_session} leaves a session, not 1 to 16"
    if not 1 <= levels <= 255:
        return f"{levels} levels, not 1 to 255"
    return None
